//! What the tasks of language models share: one model is trained on all sets of a suite, and evaluated on each of them.
//!
//! A task provides the `data` (examples, prompts, and how answers are scored); `objective` is the loss of a step,
//! `evaluation` generates answers and writes the results.

pub(crate) mod data;
mod evaluation;
mod objective;
mod protocol;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use data_loaders::Split;
use data_loaders::text::unweighted_average;
use report::record::{self, Dataset};
use san_core::Trainables;
use tch::Tensor;

pub use protocol::{AnswerDecoding, LanguageProtocol, Memory, Precision};

use self::data::TrainData;
use self::evaluation::Evaluator;
use self::objective::Objective;
use crate::models::reader::Reader;
use crate::models::{BaseModel, LoadedLanguageModel};
use crate::tasks::{EvalScores, PreparedTask, Run, Times, Tuned, splits};
use crate::train::signals::StopFlag;
use crate::train::trainer::{StepPosition, TrainTask};

/// The learning rate of a step, from the peak rate and the total number of steps.
pub(crate) type Schedule = Box<dyn Fn(f64, u64) -> Box<dyn Fn(u64) -> f64>>;

/// A language task with the data and the model of one run.
pub(crate) struct Prepared<'a> {
    run: &'a Run,
    objective: Objective,
    schedule: Schedule,
    evaluation: Duration,
}

impl<'a> Prepared<'a> {
    /// Rejects data that do not fit the model.
    pub(crate) fn new(
        run: &'a Run,
        tuned: &Tuned<'_>,
        protocol: LanguageProtocol,
        model: Reader,
        data: TrainData,
        schedule: Schedule,
    ) -> Result<Self> {
        let loaded = language_model(tuned.base)?;
        data.fits(&run.backbone, loaded.architecture.context(), protocol.max_new_tokens)?;
        let batch_size = run.protocol.batch_size;
        let objective = Objective {
            protocol,
            batch_size,
            seed: run.seed,
            model,
            data,
            device: tuned.device,
            batch: Vec::new(),
        };
        Ok(Self { run, objective, schedule, evaluation: Duration::ZERO })
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
    fn steps(&self, epoch: u64) -> Vec<Vec<usize>> {
        self.objective.steps(epoch)
    }

    fn schedule(&self, learning_rate: f64, steps: &[u64]) -> Box<dyn Fn(u64) -> f64> {
        (self.schedule)(learning_rate, steps.iter().sum())
    }

    fn load(&mut self, examples: &[usize], _: StepPosition) -> Result<()> {
        self.objective.load(examples)
    }

    fn gradient(&self, trainables: &Trainables) -> Result<(Tensor, Tensor)> {
        self.objective.gradient(trainables)
    }
}

impl PreparedTask for Prepared<'_> {
    fn evaluate(&mut self, tuned: &Tuned<'_>, folder: &Path, stop: &StopFlag) -> Result<EvalScores> {
        let start = std::time::Instant::now();
        let scores = Evaluator::new(&self.objective, tuned)?.evaluate(folder, stop)?;
        self.evaluation += start.elapsed();
        // Settings are selected by the mean only.
        let to_choose_by = splits(self.run.stage).1 == Split::Val;
        Ok(EvalScores {
            evaluations: if to_choose_by { Vec::new() } else { scores.evaluations.clone() },
            ..scores
        })
    }

    fn dataset(&self, scores: Option<&EvalScores>) -> Result<Dataset> {
        Ok(Dataset {
            name: self.run.set_label(),
            group: self.run.suite.clone(),
            order: 0,
            classes: 0,
            train: u32::try_from(self.objective.data.truncation.rows)?,
            test: scores.map_or(0, |scores| scores.evaluated),
            checksum: self.run.data_checksum.clone(),
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
        Times { evaluation: self.evaluation, ..Times::default() }
    }
}

/// The unweighted mean over the sets that have a value.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    unweighted_average(&values.collect::<Vec<_>>())
}
