//! What the tasks of language models share: one model is trained on all sets of a suite, and evaluated on each of them.
//!
//! A task provides the `data` (examples, prompts, and how answers are scored); `objective` is the loss of a step,
//! `evaluation` generates answers and writes the results.

pub(crate) mod amounts;
pub(crate) mod data;
mod evaluation;
pub(crate) mod memory;
mod objective;
mod protocol;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use data_loaders::Split;
use data_loaders::text::unweighted_average;
use report::record::{self, Dataset};
use san_core::Trainables;
use san_core::train::gradients::GradientSink;
use tch::Tensor;

pub use protocol::{AnswerDecoding, LanguageProtocol, Memory};

use self::data::TrainData;
use self::evaluation::Evaluator;
use self::objective::Objective;
use crate::error::is_divergence;
use crate::models::reader::Reader;
use crate::models::{BaseModel, LoadedLanguageModel};
use crate::resources::Resources;
use crate::tasks::{EvalScores, PreparedTask, Run, Times, Tuned, splits};
use crate::train::signals::StopFlag;
use crate::train::task::{Schedule, StepExamples, StepPosition, TrainTask};
use crate::train::trainer::RunControl;

/// A schedule, from the peak rate and the total number of steps.
pub(crate) type ScheduleOf = Box<dyn Fn(f64, u64) -> Schedule>;

/// A language task with the data and the model of a group of runs.
pub(crate) struct Prepared<'a> {
    runs: &'a [Run],
    objective: Objective,
    schedule: ScheduleOf,
    evaluation: Duration,
}

impl<'a> Prepared<'a> {
    /// Rejects data that do not fit the model.
    pub(crate) fn new(
        runs: &'a [Run],
        tuned: &Tuned<'_>,
        protocol: LanguageProtocol,
        model: Reader,
        data: TrainData,
        schedule: ScheduleOf,
    ) -> Result<Self> {
        let run = &runs[0];
        let loaded = language_model(tuned.base)?;
        data.fits(&run.backbone, loaded.architecture.context(), protocol.max_new_tokens)?;
        let batch_size = run.protocol.batch_size;
        let held_out =
            protocol.select.map_or(Ok(Vec::new()), |select| data.hold_out(select.rows, select.seed))?;
        let objective = Objective {
            protocol,
            batch_size,
            seeds: runs.iter().map(|run| run.seed).collect(),
            model,
            data,
            held_out,
            device: tuned.device,
            batch: Vec::new(),
            expected: None,
        };
        Ok(Self { runs, objective, schedule, evaluation: Duration::ZERO })
    }
}

/// The language model that a run starts from.
///
/// # Errors
/// When the base model is not a language model.
pub(crate) fn language_model(base: &BaseModel) -> Result<&LoadedLanguageModel> {
    match base {
        BaseModel::Language(model) => Ok(model),
        BaseModel::Vision(_) => anyhow::bail!("this task needs a language model"),
    }
}

impl TrainTask for Prepared<'_> {
    fn steps(&self, epoch: u64) -> Vec<StepExamples> {
        self.objective.steps(epoch)
    }

    fn schedule(&self, learning_rate: f64, steps: &[u64]) -> Schedule {
        (self.schedule)(learning_rate, steps.iter().sum())
    }

    fn load(&mut self, examples: &[Vec<usize>], position: StepPosition) -> Result<()> {
        self.objective.load(examples, position)
    }

    fn gradient(&self, trainables: &Trainables) -> Result<(Tensor, Tensor)> {
        self.objective.gradient(trainables)
    }

    fn gradients(&self, trainables: &Trainables, sink: &mut dyn GradientSink) -> Result<Tensor> {
        self.objective.gradients(trainables, sink)
    }

    fn streams_gradients(&self) -> bool {
        self.objective.streams_gradients()
    }

    fn held_out_losses(&mut self, steps: u64) -> Result<Option<Vec<f64>>> {
        let select = self.objective.protocol.select;
        let is_due = select.is_some_and(|select| steps.is_multiple_of(select.every_steps.get()));
        is_due.then(|| self.objective.held_out_losses()).transpose()
    }

    fn data_wait(&self) -> Duration {
        self.times().data_wait
    }
}

impl PreparedTask for Prepared<'_> {
    fn before_training(
        &mut self,
        _: &Tuned<'_>,
        resources: &mut Resources,
        control: &mut RunControl<'_>,
    ) -> Result<()> {
        let TrainData { images, eval_sets, .. } = &self.objective.data;
        images.prepare(&mut resources.features, control)?;
        eval_sets.iter().try_for_each(|set| set.images().prepare(&mut resources.features, control))
    }

    fn evaluate(
        &mut self,
        tuned: &Tuned<'_>,
        runs: &[(usize, &Path)],
        stop: &StopFlag,
    ) -> Result<Vec<Option<EvalScores>>> {
        let start = Instant::now();
        let objective = &self.objective;
        let evaluate = |(run, folder): &(usize, &Path)| {
            let scores = tuned.with_run(i64::try_from(*run)?, |tuned| {
                Evaluator::new(objective, tuned)?.evaluate(folder, stop)
            });
            match scores {
                Err(error) if is_divergence(&error) => Ok(None),
                scores => scores.map(Some),
            }
        };
        let mut all: Vec<Option<EvalScores>> = runs.iter().map(evaluate).collect::<Result<_>>()?;
        self.evaluation += start.elapsed();
        // Settings are selected by the mean only.
        if splits(self.runs[0].stage).1 == Split::Val {
            all.iter_mut().flatten().for_each(|scores| scores.evaluations.clear());
        }
        Ok(all)
    }

    fn dataset(&self, scores: Option<&EvalScores>) -> Result<Dataset> {
        Ok(Dataset {
            name: self.runs[0].set_label(),
            group: self.runs[0].suite.clone(),
            order: 0,
            classes: 0,
            train: u32::try_from(self.objective.rows())?,
            test: scores.map_or(0, |scores| scores.evaluated),
            checksum: self.runs[0].data_checksum.clone(),
            source: None,
        })
    }

    fn truncation(&self) -> Option<record::Truncation> {
        let truncation = self.objective.data.truncation;
        Some(record::Truncation {
            rows: truncation.rows,
            truncated: truncation.truncated,
            answers_lost: truncation.answers_lost,
        })
    }

    fn times(&self) -> Times {
        let TrainData { images, eval_sets, .. } = &self.objective.data;
        let of_training = images.times();
        let waited_by_evaluation = eval_sets.iter().map(|set| set.images().times().data_wait).sum();
        Times {
            preparation: of_training.computing,
            evaluation: self.evaluation.saturating_sub(waited_by_evaluation),
            data_wait: of_training.data_wait + waited_by_evaluation,
        }
    }
}

/// The unweighted mean over the sets that have a value.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    unweighted_average(&values.collect::<Vec<_>>())
}
