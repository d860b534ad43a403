//! The stages of a run, for any task: prepare, resume, train, evaluate, write.
//!
//! The order of examples and all initial values are functions of (seed, purpose); a run depends on nothing that ran
//! before it in the same process, and resumes from a checkpoint bit for bit.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use report::record::{ADAPTER_FILE, Dataset, Metrics, Parameters, Stage, State};
use san_core::adapters::file::{self as adapter_file, AdapterHeader};
use san_core::methods::{self, Method, UNTRAINED};
use san_core::spec::trainable::Group;
use san_core::{AdapterSet, ModelSpec, Trainables};

use crate::error::{RunError, is_divergence};
use crate::models::BaseModel;
use crate::resources::Resources;
use crate::tasks::{EvalScores, PreparedTask, Run, Task, Times, Tuned};
use crate::train::trainer::{RunControl, Trainer};

/// The results of a run and their cost.
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
    /// Size of the adapter file in bytes.
    pub adapter_bytes: u64,
    /// Parameter counts.
    pub parameters: Parameters,
}

/// Trains and evaluates `run` and writes its adapter and predictions into `folder`.
///
/// # Errors
/// When data or weights cannot be read, the folder cannot be written, or a signal asked to stop. Non-finite numbers are
/// not an error: the outcome is [`State::Diverged`].
pub fn execute(
    run: &Run,
    resources: &mut Resources,
    folder: &Path,
    control: &mut RunControl<'_>,
) -> Result<Outcome> {
    let mut execution = control.stop.interruptible(|| {
        let task = run.protocol.task().map_err(anyhow::Error::msg)?;
        let modules = task.modules_to_save().filter(|_| run.method != UNTRAINED);
        RunExecution::prepare(run, task, modules, resources)
    })?;
    execution.trainer.restore(control.checkpoint)?;
    match execution.train_and_evaluate(resources, folder, control) {
        Ok((scores, adapter_bytes)) => execution.into_outcome(scores, adapter_bytes),
        Err(error) => Err(execution.save_after_error(error, control)),
    }
}

/// A run in memory.
pub(super) struct RunExecution<'a> {
    run: &'a Run,
    base: BaseModel,
    method: Box<dyn Method>,
    adapters: AdapterSet,
    pub(super) trainer: Trainer,
    task: Box<dyn PreparedTask + 'a>,
    classes: i64,
}

impl<'a> RunExecution<'a> {
    /// Loads the base model, allocates what is trained, and opens the data. `modules_to_save` are trained in full in
    /// addition to the run's method, at their own learning rate.
    pub(super) fn prepare(
        run: &'a Run,
        task: &'a dyn Task,
        modules_to_save: Option<(Vec<String>, f64)>,
        resources: &mut Resources,
    ) -> Result<Self> {
        let base = task.base_model(&run.backbone, &mut resources.models)?;
        if base.checksum() != run.weights_checksum {
            return Err(RunError::ChangedWeights { backbone: run.backbone.clone() }.into());
        }
        let (method, device) = (run.method()?, resources.models.device());
        let (modules, rate) = modules_to_save.unzip();
        let modules: Vec<String> = modules.unwrap_or_default();
        let classes = task.classes(run, &mut resources.data)?;
        let seeds = [run.seed];
        let (trainables, adapters) =
            methods::prepare(&*method, &modules, base.model_spec(), base.weights(), classes, &seeds, device)?;
        let tuned =
            Tuned { base: &base, method: &*method, adapters: &adapters, trainables: &trainables, device };
        let prepared = task.prepare(run, &tuned, resources)?;
        let mut trainer = Trainer::new(trainables, run.protocol.weight_decay)?;
        if let Some(rate) = rate.filter(|rate| *rate != run.learning_rate) {
            trainer = trainer.modules_to_save_at(rate / run.learning_rate);
        }
        Ok(Self { run, base, method, adapters, trainer, task: prepared, classes })
    }

    /// Trains from the first batch, or from the checkpoint, to the last batch.
    pub(super) fn train(&mut self, control: &mut RunControl<'_>) -> Result<State> {
        let nothing_to_learn = self.trainer.trainables.values().numel() == 0;
        let epochs = if nothing_to_learn { 0 } else { self.run.protocol.epochs };
        self.trainer.train(&mut *self.task, epochs, self.run.learning_rate, control)
    }

    /// Everything from the first batch to the last file; no scores if the run diverged.
    fn train_and_evaluate(
        &mut self,
        resources: &mut Resources,
        folder: &Path,
        control: &mut RunControl<'_>,
    ) -> Result<(Option<EvalScores>, u64)> {
        let device = resources.models.device();
        let Self { base, method, adapters, trainer, task, .. } = &mut *self;
        let tuned = Tuned { base, method: &**method, adapters, trainables: &trainer.trainables, device };
        task.before_training(&tuned, &mut resources.features, control.stop)?;
        let scores = match self.train(control)? {
            State::Finished => self.evaluate(device, folder, control)?,
            State::Diverged => None,
        };
        let header = AdapterHeader {
            method: self.run.method.clone(),
            options: self.method.options()?.into(),
            backbone: self.run.backbone.clone(),
            base_checksum: self.base.checksum().to_owned(),
            classes: self.classes,
        };
        let adapter_bytes =
            adapter_file::write(&folder.join(ADAPTER_FILE), &header, &self.trainer.trainables)?;
        self.trainer.publish_log(folder)?;
        Ok((scores, adapter_bytes))
    }

    fn evaluate(
        &mut self,
        device: tch::Device,
        folder: &Path,
        control: &RunControl<'_>,
    ) -> Result<Option<EvalScores>> {
        let Self { base, method, adapters, trainer, task, .. } = self;
        let tuned = Tuned { base, method: &**method, adapters, trainables: &trainer.trainables, device };
        match task.evaluate(&tuned, folder, control.stop) {
            Err(error) if is_divergence(&error) => Ok(None),
            scores => scores.map(Some),
        }
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

    fn into_outcome(self, scores: Option<EvalScores>, adapter_bytes: u64) -> Result<Outcome> {
        let state = if scores.is_some() { State::Finished } else { State::Diverged };
        let dataset = self.task.dataset(scores.as_ref())?;
        let (truncation, times) = (self.task.truncation(), self.task.times());
        let parameters = parameters(self.base.model_spec(), &self.trainer.trainables)?;
        let progress = self.trainer.progress;
        let scores = scores.unwrap_or_default();
        let Times { preparation, evaluation, data_wait } = times;
        Ok(Outcome {
            state,
            dataset,
            parameters,
            metrics: Metrics {
                accuracy: scores.score,
                metric: scores.metric,
                train_loss: progress.losses.last().copied(),
                merge_difference: scores.merge_difference,
                loss_history: progress.losses,
                steps: progress.steps,
                test_selected: progress.test_selected.filter(|_| self.run.stage == Stage::Final),
                no_answer: scores.no_answer,
                forgetting: scores.forgetting,
                truncation,
                evaluations: scores.evaluations,
                pending: scores.pending,
            },
            training: progress.training + preparation,
            evaluation,
            data_wait: progress.data_wait + data_wait,
            adapter_bytes,
        })
    }
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
