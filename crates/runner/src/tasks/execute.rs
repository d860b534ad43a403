//! The stages of a group of runs, for any task: prepare, resume, train, evaluate, write.
//!
//! The order of examples and all initial values are functions of (seed, purpose); a run depends on nothing that ran
//! before it in the same process, and resumes from a checkpoint bit for bit.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use report::record::{ADAPTER_FILE, Dataset, Metrics, Parameters, Selected, Stage, State};
use san_core::adapters::file::{self as adapter_file, AdapterHeader};
use san_core::methods::{self, Method, UNTRAINED};
use san_core::spec::trainable::Group;
use san_core::{AdapterSet, ModelSpec, Trainables, Weights};

use crate::error::RunError;
use crate::io::files::{entries, file_name, writing};
use crate::models::{BaseModel, SavedAdapter};
use crate::resources::Resources;
use crate::tasks::protocol::AdamWState;
use crate::tasks::{EvalScores, Memory, Precision, PreparedTask, Run, Task, Times, Tuned};
use crate::train::checkpoint::{Best, RunProgress};
use crate::train::trainer::{RunControl, Trainer};

/// The results of a run and their cost. Times are the run's share of its group's.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub state: State,
    /// What it was trained on and evaluated on.
    pub dataset: Dataset,
    /// What was measured.
    pub metrics: Metrics,
    /// Training time, without evaluation and data loading.
    pub training: Duration,
    /// Evaluation time, without data loading.
    pub evaluation: Duration,
    /// Time of reading and decoding data.
    pub data_wait: Duration,
    /// Number of runs in the group.
    pub group_size: u32,
    /// How its steps were computed, if its task has micro-batches.
    pub memory: Option<Memory>,
    /// Size of the adapter file in bytes.
    pub adapter_bytes: u64,
    /// Parameter counts.
    pub parameters: Parameters,
}

/// Trains and evaluates the runs of a group together, and writes the adapter and the predictions of each into its folder.
///
/// # Errors
/// When data or weights cannot be read, a folder cannot be written, or a signal asked to stop. Non-finite numbers are not
/// an error: the outcome of that run is [`State::Diverged`].
pub fn execute(
    runs: &[Run],
    resources: &mut Resources,
    folders: &[&Path],
    control: &mut RunControl<'_>,
) -> Result<Vec<Outcome>> {
    let first = &runs[0];
    torch_ops::allow_tf32(first.protocol.precision == Precision::Tf32);
    let mut execution = control.stop.interruptible(|| {
        let task = first.protocol.task().map_err(anyhow::Error::msg)?;
        let modules = task.modules_to_save().filter(|_| first.method != UNTRAINED);
        GroupExecution::prepare(runs, task, modules, resources)
    })?;
    execution.trainer.restore(control.checkpoint)?;
    match execution.train_and_evaluate(resources, folders, control) {
        Ok(results) => execution.into_outcomes(results),
        Err(error) => Err(execution.save_after_error(error, control)),
    }
}

/// Evaluates a run as it starts, without training; files of its answers are written into `folder`.
///
/// # Errors
/// As for [`execute`]; and if the model computes numbers that are not finite.
pub fn evaluate(
    run: &Run,
    resources: &mut Resources,
    folder: &Path,
    control: &mut RunControl<'_>,
) -> Result<EvalScores> {
    torch_ops::allow_tf32(run.protocol.precision == Precision::Tf32);
    let runs = std::slice::from_ref(run);
    let task = run.protocol.task().map_err(anyhow::Error::msg)?;
    let modules = task.modules_to_save().filter(|_| run.method != UNTRAINED);
    let mut execution = GroupExecution::prepare(runs, task, modules, resources)?;
    let (task, tuned) = execution.parts(resources.models.device());
    task.before_training(&tuned, resources, control)?;
    let scores = task.evaluate(&tuned, &[(0, folder)], control.stop)?;
    let not_finite = san_core::Error::NotFinite { what: "an output of the model" };
    Ok(scores.into_iter().next().flatten().ok_or(not_finite)?)
}

/// The results of a run that are not in the trainer's progress: scores, `None` if it diverged, and the size of its
/// adapter file in bytes.
type RunResults = (Option<EvalScores>, u64);

/// A group of runs in memory.
pub(super) struct GroupExecution<'a> {
    runs: &'a [Run],
    base: BaseModel,
    /// The base model's weights in the dtype of the protocol.
    weights: Weights,
    method: Box<dyn Method>,
    modules_to_save: Vec<String>,
    adapters: AdapterSet,
    pub(super) trainer: Trainer,
    task: Box<dyn PreparedTask + 'a>,
    classes: i64,
}

impl<'a> GroupExecution<'a> {
    /// Loads the base model, allocates what is trained, and opens the data. `modules_to_save` are trained in full in
    /// addition to the runs' method, at their own learning rate.
    pub(super) fn prepare(
        runs: &'a [Run],
        task: &'a dyn Task,
        modules_to_save: Option<(Vec<String>, f64)>,
        resources: &mut Resources,
    ) -> Result<Self> {
        let run = &runs[0];
        let kind = run.protocol.precision.kind();
        let mut base = task.base_model(&run.backbone, kind, &mut resources.models)?;
        if base.checksum() != run.weights_checksum {
            return Err(RunError::ChangedWeights { backbone: run.backbone.clone() }.into());
        }
        let (method, device) = (run.method()?, resources.models.device());
        let (modules, rate) = modules_to_save.unzip();
        let modules: Vec<String> = modules.unwrap_or_default();
        let classes = task.classes(run, &mut resources.data)?;
        let seeds: Vec<u64> = runs.iter().map(|run| run.seed).collect();
        if run.protocol.adamw.state == AdamWState::Bf16
            && trains_every_tensor(&*method, &modules, base.model_spec())?
        {
            // The device has no room for a second copy. It is needed again for the loss before fine-tuning only.
            resources.models.release_language();
            base.move_weights_to_host()?;
        }
        let model_spec = base.model_spec();
        let options = (run.protocol.adamw.state.kind(), device);
        let trainables =
            methods::allocate(&*method, &modules, model_spec, base.weights(), classes, &seeds, options)?;
        if let Some(start) = &run.adapter {
            let saved = SavedAdapter::read(Path::new(&start.path), &base)?;
            if saved.checksum != start.checksum {
                return Err(RunError::ChangedWeights { backbone: start.path.clone() }.into());
            }
            saved.copy_into(&base, classes, &trainables)?;
        }
        let weights = base.weights().to_kind(kind)?;
        let adapters = methods::attach(&*method, &modules, model_spec, &weights, &trainables)?;
        let tuned = Tuned {
            base: &base,
            weights: &weights,
            kind,
            method: &*method,
            modules_to_save: &modules,
            adapters: &adapters,
            trainables: &trainables,
            device,
        };
        let prepared = task.prepare(runs, &tuned, resources)?;
        let mut trainer =
            Trainer::new(trainables, &run.protocol.train_settings().map_err(anyhow::Error::msg)?)?;
        if let Some(rate) = rate.filter(|rate| runs.iter().any(|run| run.learning_rate != *rate)) {
            let factors: Vec<f64> = runs.iter().map(|run| rate / run.learning_rate).collect();
            trainer = trainer.modules_to_save_at(&factors)?;
        }
        Ok(Self {
            runs,
            base,
            weights,
            method,
            modules_to_save: modules,
            adapters,
            trainer,
            task: prepared,
            classes,
        })
    }

    /// Trains from the first batch, or from the checkpoint, to the last batch.
    pub(super) fn train(&mut self, resources: &mut Resources, control: &mut RunControl<'_>) -> Result<()> {
        let (task, tuned) = self.parts(resources.models.device());
        task.before_training(&tuned, resources, control)?;
        let nothing_to_learn = self.trainer.trainables.values().numel() == 0;
        let epochs = if nothing_to_learn { 0 } else { self.runs[0].protocol.epochs };
        let rates: Vec<f64> = self.runs.iter().map(|run| run.learning_rate).collect();
        self.trainer.train(&mut *self.task, epochs, &rates, control)
    }

    /// Everything from the first batch to the last file.
    fn train_and_evaluate(
        &mut self,
        resources: &mut Resources,
        folders: &[&Path],
        control: &mut RunControl<'_>,
    ) -> Result<Vec<RunResults>> {
        self.train(resources, control)?;
        let states = self.trainer.states();
        let finished: Vec<(usize, &Path)> =
            (0..).zip(folders.iter().copied()).filter(|(run, _)| states[*run] == State::Finished).collect();
        let is_untrained = self.trainer.trainables.values().numel() == 0;
        let (task, tuned) = self.parts(resources.models.device());
        let all = if is_untrained {
            evaluate_once(task, &tuned, folders, control)?
        } else {
            let scores = task.evaluate(&tuned, &finished, control.stop)?;
            let mut all: Vec<Option<EvalScores>> = vec![None; folders.len()];
            for ((run, _), scores) in finished.iter().zip(scores) {
                all[*run] = scores;
            }
            all
        };
        self.trainer.publish_logs(folders)?;
        all.into_iter()
            .enumerate()
            .map(|(run, scores)| Ok((scores, self.write(run, folders[run])?)))
            .collect()
    }

    /// The task, and the model that it trains.
    pub(super) fn parts(&mut self, device: tch::Device) -> (&mut (dyn PreparedTask + 'a), Tuned<'_>) {
        let Self { runs, base, weights, method, modules_to_save, adapters, trainer, task, .. } = self;
        let (trainables, kind) = (&trainer.trainables, runs[0].protocol.precision.kind());
        let method = &**method;
        (&mut **task, Tuned { base, weights, kind, method, modules_to_save, adapters, trainables, device })
    }

    /// Writes the adapter of a run; returns its size in bytes.
    fn write(&self, run: usize, folder: &Path) -> Result<u64> {
        let header = AdapterHeader {
            method: self.runs[run].method.clone(),
            options: self.method.options()?.into(),
            backbone: self.runs[run].backbone.clone(),
            base_checksum: self.base.checksum().to_owned(),
            classes: self.classes,
        };
        let trainables = self.trainer.trainables.of_run(i64::try_from(run)?)?;
        Ok(adapter_file::write(&folder.join(ADAPTER_FILE), &header, &trainables)?)
    }

    /// Called after an error; see [`Trainer::save_after_error`].
    pub(super) fn save_after_error(
        &mut self,
        error: anyhow::Error,
        control: &RunControl<'_>,
    ) -> anyhow::Error {
        match self.trainer.save_after_error(&error, &*self.task, control.checkpoint) {
            Ok(()) => error,
            Err(worse) => worse,
        }
    }

    fn into_outcomes(self, results: Vec<RunResults>) -> Result<Vec<Outcome>> {
        let parameters = parameters(self.base.model_spec(), &self.trainer.trainables)?;
        let Times { preparation, evaluation, data_wait } = self.task.times();
        let group_size = u32::try_from(self.runs.len())?;
        let progress = self.trainer.progress;
        let outcome = |((scores, adapter_bytes), run): (RunResults, RunProgress)| -> Result<Outcome> {
            let state = if scores.is_some() { State::Finished } else { State::Diverged };
            let dataset = self.task.dataset(scores.as_ref())?;
            let scores = scores.unwrap_or_default();
            Ok(Outcome {
                state,
                dataset,
                parameters,
                metrics: Metrics {
                    accuracy: scores.score,
                    metric: scores.metric,
                    train_loss: run.losses.last().copied(),
                    merge_difference: scores.merge_difference,
                    loss_history: run.losses,
                    steps: run.diverged_after.unwrap_or(progress.steps),
                    selected: run.best.map(|Best { step, loss }| Selected { step, loss }),
                    test_selected: run.test_selected.filter(|_| self.runs[0].stage == Stage::Final),
                    no_answer: scores.no_answer,
                    forgetting: scores.forgetting,
                    truncation: self.task.truncation(),
                    evaluations: scores.evaluations,
                    pending: scores.pending,
                },
                training: (progress.training + preparation) / group_size,
                evaluation: evaluation / group_size,
                data_wait: (progress.data_wait + data_wait) / group_size,
                group_size,
                memory: None,
                adapter_bytes,
            })
        };
        results.into_iter().zip(progress.runs).map(outcome).collect()
    }
}

/// Evaluates a model of which nothing is trained: it is the same for every seed, and so are its answers, which are copied.
fn evaluate_once(
    task: &mut (dyn PreparedTask + '_),
    tuned: &Tuned<'_>,
    folders: &[&Path],
    control: &RunControl<'_>,
) -> Result<Vec<Option<EvalScores>>> {
    let (first, others) = folders.split_at(1);
    let scores = task.evaluate(tuned, &[(0, first[0])], control.stop)?;
    for file in entries(first[0]) {
        for folder in others {
            let copy = folder.join(file_name(&file));
            writing(&copy, std::fs::copy(&file, &copy))?;
        }
    }
    Ok(vec![scores.into_iter().next().flatten(); folders.len()])
}

/// Whether no frozen tensor of the model is used while it is trained.
fn trains_every_tensor(method: &dyn Method, modules: &[String], model_spec: &ModelSpec) -> Result<bool> {
    let trained = methods::trainables_with(method, modules, model_spec)?;
    let trained: BTreeSet<&str> = trained.iter().map(|spec| spec.name.as_str()).collect();
    Ok(model_spec.tensors.iter().all(|tensor| trained.contains(tensor.name.as_str())))
}

/// Parameter counts of a backbone and of what is trained.
fn parameters(model_spec: &ModelSpec, trainables: &Trainables) -> Result<Parameters> {
    let trained = |head: bool| -> i64 {
        let specs = trainables.iter().map(|(spec, _)| spec);
        specs.filter(|spec| (spec.group == Group::Head) == head).map(|spec| spec.count()).sum()
    };
    Ok(Parameters {
        backbone: u64::try_from(model_spec.parameters())?,
        trainable: u64::try_from(trained(false))?,
        head: u64::try_from(trained(true))?,
    })
}
