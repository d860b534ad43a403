//! What a base model is fine-tuned to do: one file or folder a task, and the one course that every run takes.
//!
//! A [`Task`] is the section of a protocol that is its own: it opens its data, loads the base model that it needs, and
//! prepares a [`PreparedTask`], which trains and evaluates. `execute` is the life of a run, whatever its task; `align`
//! trains the projector of a vision-language model with the same trainer.

pub mod align;
pub mod classification;
mod execute;
pub mod instruction_following;
pub mod language;
pub(crate) mod protocol;
mod run;
pub mod visual_question_answering;

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use data_loaders::{DatasetEntry, Split, SplitCounts};
use report::record::{Dataset, Evaluation, Forgetting, Pending, Truncation};
use san_core::adapters::merge::merge;
use san_core::methods::Method;
use san_core::{Attachment, Trainables, Weights};
use tch::Device;

pub use execute::{Outcome, execute};
pub use protocol::Protocol;
pub use run::{Run, Stage, Trial};

use crate::models::BaseModel;
use crate::resources::{DataSets, DataSource, FeatureCache, Models, Resources};
use crate::train::signals::StopFlag;
use crate::train::trainer::TrainTask;

/// A task, with its part of the protocol.
pub trait Task: Debug {
    /// Name of its section in a protocol.
    fn name(&self) -> &'static str;

    /// What the types cannot say.
    ///
    /// # Errors
    /// A clause with what is wrong.
    fn check(&self, epochs: u64) -> Result<(), String>;

    /// The trainings that a suite's sets ask for, before methods and seeds.
    fn units(&self, suite: &str, sets: &[String]) -> Vec<Unit>;

    /// Opens the data of a unit.
    ///
    /// # Errors
    /// When they are missing or wrong.
    fn describe(&self, unit: &Unit, source: &DataSource, data: &mut DataSets) -> Result<UnitData>;

    /// Reads every sample of a unit once, so that a broken one is known before training starts.
    ///
    /// # Errors
    /// With the first one that cannot be read.
    fn check_samples(&self, unit: &Unit, source: &DataSource, data: &mut DataSets) -> Result<()> {
        let _ = (unit, source, data);
        Ok(())
    }

    /// The frozen model of that name.
    ///
    /// # Errors
    /// When it is unknown, or its weights are missing or do not fit.
    fn base_model(&self, name: &str, models: &mut Models) -> Result<BaseModel>;

    /// Classes of the head that a run trains; 0 where it has none.
    ///
    /// # Errors
    /// When the data are missing or wrong.
    fn classes(&self, run: &Run, data: &mut DataSets) -> Result<i64> {
        let _ = (run, data);
        Ok(0)
    }

    /// Tensors of the base model that are trained whole in addition to any method that trains, and their learning rate.
    fn modules_to_save(&self) -> Option<(Vec<String>, f64)> {
        None
    }

    /// Opens the data of a run and builds its model.
    ///
    /// # Errors
    /// When data are missing, or are not what was planned.
    fn prepare<'a>(
        &'a self,
        run: &'a Run,
        tuned: &Tuned<'_>,
        resources: &mut Resources,
    ) -> Result<Box<dyn PreparedTask + 'a>>;
}

/// What one model learns from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// A set, or the suite where one model learns from all of its sets.
    pub set: String,
    /// The sets, where there are several.
    pub sets: Vec<String>,
}

/// The data of a unit, for a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitData {
    /// Checksum of everything that a model learns from and is evaluated on.
    pub checksum: String,
    /// A row for each set.
    pub sets: Vec<SetRow>,
}

/// A set for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRow {
    /// Name, `mini/<set>` where it is synthetic.
    pub name: String,
    /// Numbers of samples.
    pub counts: SplitCounts,
    /// Number of classes; none where answers are free.
    pub classes: Option<u32>,
}

/// A base model with a method over allocated tensors.
#[derive(Clone, Copy)]
pub struct Tuned<'a> {
    /// The frozen model.
    pub base: &'a BaseModel,
    /// The method.
    pub method: &'a dyn Method,
    /// What the method put into the model.
    pub adapters: &'a Attachment,
    /// What is trained.
    pub trainables: &'a Trainables,
    /// Where it is computed.
    pub device: Device,
}

impl Tuned<'_> {
    /// The weights of a plain model that computes the same; none where the method cannot be merged.
    ///
    /// # Errors
    /// When a tensor is missing.
    pub fn merged(&self) -> Result<Option<Weights>> {
        if self.method.unmergeable().is_some() {
            return Ok(None);
        }
        let (layout, weights) = (self.base.layout(), self.base.weights());
        Ok(Some(merge(layout, weights, self.adapters, self.trainables, 0)?))
    }
}

/// A task with the data and the model of one run.
pub trait PreparedTask: TrainTask {
    /// What is done once before the first step, or again after an interruption.
    ///
    /// # Errors
    /// When data cannot be read, or a signal asked to stop.
    fn before_training(
        &mut self,
        tuned: &Tuned<'_>,
        features: &mut FeatureCache,
        stop: &StopFlag,
    ) -> Result<()> {
        let _ = (tuned, features, stop);
        Ok(())
    }

    /// Evaluates the tuned model and writes what it answered into `folder`.
    ///
    /// # Errors
    /// When data cannot be read, a file cannot be written, or a signal asked to stop;
    /// [`san_core::Error::NotFinite`] where the model computes numbers that are not finite: its run diverged.
    fn evaluate(&mut self, tuned: &Tuned<'_>, folder: &Path, stop: &StopFlag) -> Result<EvalScores>;

    /// The data, with what was evaluated; none of a run that diverged.
    ///
    /// # Errors
    /// When the registry's entry cannot be serialised.
    fn dataset(&self, scores: Option<&EvalScores>) -> Result<Dataset>;

    /// What a cut to a number of tokens took of the training data.
    fn truncation(&self) -> Option<Truncation> {
        None
    }

    /// Where the time went besides the training's steps.
    fn times(&self) -> Times;
}

/// What an evaluation found.
#[derive(Debug, Clone, Default)]
pub struct EvalScores {
    /// The score in [0, 1]; over several sets, the unweighted mean.
    pub score: Option<f64>,
    /// What the score is.
    pub metric: String,
    /// Samples that were evaluated, over all sets.
    pub evaluated: u32,
    /// Largest absolute difference between merged and unmerged logits on one batch.
    pub merge_difference: Option<f64>,
    /// Share of the generated texts in which no answer was found.
    pub no_answer: Option<f64>,
    /// Mean loss on a neutral text before and after tuning.
    pub forgetting: Option<Forgetting>,
    /// What each of several sets gave.
    pub evaluations: Vec<Evaluation>,
    /// Sets whose answers only a server knows.
    pub pending: Vec<Pending>,
}

/// Where time went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Forward passes that made features of the training data: part of the training.
    pub preparation: Duration,
    /// Evaluation, without reading.
    pub evaluation: Duration,
    /// Reading and decoding.
    pub reading: Duration,
}

/// The splits that a stage trains on and evaluates.
pub fn splits(stage: Stage) -> (Split, Split) {
    match stage {
        Stage::Tune => (Split::Train, Split::Val),
        Stage::Final => (Split::TrainVal, Split::Test),
    }
}

/// A set of which `evaluated` samples are evaluated; what is trained on is not counted yet.
fn dataset(name: &str, entry: &DatasetEntry, evaluated: usize, checksum: &str) -> Result<Dataset> {
    let group = serde_json::to_value(entry.group)?;
    let group = group.as_str().ok_or_else(|| anyhow::anyhow!("the group of {name} is not a name"))?;
    Ok(Dataset {
        name: name.to_owned(),
        group: group.to_owned(),
        order: entry.order,
        classes: entry.classes,
        train: 0,
        test: u32::try_from(evaluated)?,
        checksum: checksum.to_owned(),
    })
}
