//! The tasks that a base model is fine-tuned for: one file or folder per task, and the stages that all runs share.
//!
//! A [`Task`] is its own section of a protocol: it opens its data, loads the base model that it needs, and prepares a
//! [`PreparedTask`], which trains and evaluates. `execute` takes a group of runs of any task through its stages; `align`
//! trains the projector of a vision-language model with the same trainer.

pub mod align;
mod amounts;
pub mod classification;
mod execute;
mod group;
pub mod instruction_following;
pub mod language;
mod measure;
mod need;
mod precision;
pub(crate) mod protocol;
mod run;
mod schedule;
pub mod visual_question_answering;

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use backbones::step_memory::Need;
use data_loaders::{DatasetEntry, Split, SplitCounts};
use report::record::{Dataset, Evaluation, Forgetting, Pending, Truncation};
use san_core::adapters::merge::merge;
use san_core::methods::{self, Method};
use san_core::spec::model::HeadSpec;
use san_core::{AdapterSet, Trainables, Weights};
use serde_json::Value;
use tch::{Device, Kind};

pub use amounts::{Amounts, DataSizes, EvaluatedTexts, ImageAmounts, TextAmounts, Texts, TowerAmounts};
pub use execute::{Outcome, evaluate, execute};
pub use group::{RunGroup, group_indices};
pub use language::Memory;
pub use measure::{Measured, measure, stand_in};
pub use need::GroupShape;
pub use precision::Precision;
pub use protocol::Protocol;
pub use run::{Run, Stage, StartingAdapter, Trial};
pub use schedule::{PeakFactor, Per, ScheduleProtocol, WarmupFrom};

use crate::models::{BaseModel, NamedArchitecture};
use crate::resources::{DataSets, DataSource, Models, Resources};
use crate::train::signals::StopFlag;
use crate::train::task::TrainTask;
use crate::train::trainer::RunControl;

/// A task, with its section of the protocol.
pub trait Task: Debug {
    /// Name of its section in a protocol.
    fn name(&self) -> &'static str;

    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// A clause that states what is wrong.
    fn check(&self, epochs: u64) -> Result<(), String>;

    /// The units to train on for a suite's sets, before methods and seeds.
    fn units(&self, suite: &str, sets: &[String]) -> Vec<Unit>;

    /// Opens the data of a unit.
    ///
    /// # Errors
    /// When they are missing or wrong.
    fn describe(&self, unit: &Unit, source: &DataSource, data: &mut DataSets) -> Result<UnitData>;

    /// Reads every sample of a unit once, so that a corrupt one is found before training starts.
    ///
    /// # Errors
    /// With the first one that cannot be read.
    fn check_samples(&self, unit: &Unit, source: &DataSource, data: &mut DataSets) -> Result<()> {
        let _ = (unit, source, data);
        Ok(())
    }

    /// The frozen model of that name. A language model's matrices are read as `kind`, since they are large; those of other
    /// models are f32.
    ///
    /// # Errors
    /// When it is unknown, or its weights are missing or do not fit.
    fn base_model(&self, name: &str, kind: Kind, models: &mut Models) -> Result<BaseModel>;

    /// Number of classes of the head that a run trains; 0 if it has none.
    ///
    /// # Errors
    /// When the data are missing or wrong.
    fn classes(&self, run: &Run, data: &mut DataSets) -> Result<i64> {
        let _ = (run, data);
        Ok(0)
    }

    /// Tensors of the base model that are trained in full in addition to any method that trains, and their learning
    /// rate.
    fn modules_to_save(&self) -> Option<(Vec<String>, f64)> {
        None
    }

    /// The numbers of its learning-rate schedule, for the record.
    fn recorded_schedule(&self) -> Value;

    /// Whether the trained tensors with the lowest loss on held-out examples are kept instead of the last ones.
    fn keeps_best(&self) -> bool {
        false
    }

    /// Whether the number of steps or the sizes of their batches differ between seeds, so that runs of different seeds
    /// cannot be trained together.
    fn steps_depend_on_seed(&self) -> bool {
        false
    }

    /// The features of pictures that `--cache-features` keeps for a run: number of pictures, and bytes; `None` if it
    /// has none.
    ///
    /// # Errors
    /// When the model is unknown, or the data are missing or wrong.
    fn cached_features(&self, run: &Run, resources: &mut Resources) -> Result<Option<(usize, u64)>> {
        let _ = (run, resources);
        Ok(None)
    }

    /// How a step may be computed so that it fits into memory: as the protocol says, or from the fastest way to the one that
    /// needs the least.
    fn step_choices(&self, batch_size: usize) -> Vec<Memory> {
        let _ = batch_size;
        vec![Memory::default()]
    }

    /// The same task with its steps computed that way.
    fn with_memory(&self, protocol: &Protocol, memory: Memory) -> Protocol {
        let _ = memory;
        protocol.clone()
    }

    /// What a group of runs like this one needs on its device.
    ///
    /// # Errors
    /// When the model is of another kind, or the method does not fit it.
    fn need(&self, run: &Run, model: &NamedArchitecture, shape: GroupShape) -> Result<Need>;

    /// How much data a run trains on and is evaluated on, from the sizes of its sets. With `resources`, its data and its
    /// model are there, and texts are measured; otherwise their lengths are assumed.
    ///
    /// # Errors
    /// When a set or model is unknown, or the data are wrong.
    fn amounts(&self, run: &Run, sizes: &DataSizes, resources: Option<&mut Resources>) -> Result<Amounts>;

    /// Opens the data of a group of runs and builds its model.
    ///
    /// # Errors
    /// When data are missing, or differ from those that were planned.
    fn prepare<'a>(
        &'a self,
        runs: &'a [Run],
        tuned: &Tuned<'_>,
        resources: &mut Resources,
    ) -> Result<Box<dyn PreparedTask + 'a>>;
}

/// The data that one model is trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// A set, or the suite if one model is trained on all of its sets.
    pub set: String,
    /// The sets, if there are several.
    pub sets: Vec<String>,
}

impl Unit {
    /// The names of its sets.
    pub fn names(&self) -> Vec<&String> {
        if self.sets.is_empty() { vec![&self.set] } else { self.sets.iter().collect() }
    }
}

/// The data of a unit, as a plan shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitData {
    /// Checksum of everything that a model is trained and evaluated on.
    pub checksum: String,
    /// One row per set.
    pub sets: Vec<SetRow>,
    /// Training examples that belong to no set.
    pub mixture: usize,
}

/// A set, as a plan shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRow {
    /// Name; `mini/<set>` if it is synthetic.
    pub name: String,
    /// Numbers of samples.
    pub counts: SplitCounts,
    /// Number of classes; `None` if answers are free-form.
    pub classes: Option<u32>,
    /// Whose split it is, as in records; `None` for sets of text.
    pub source: Option<&'static str>,
}

/// A base model with a method and its allocated tensors.
#[derive(Clone, Copy)]
pub struct Tuned<'a> {
    /// The frozen model.
    pub base: &'a BaseModel,
    /// Its weights in the dtype that they are used in.
    pub weights: &'a Weights,
    /// That dtype.
    pub kind: Kind,
    /// The method.
    pub method: &'a dyn Method,
    /// Modules that are trained in full in addition to the method.
    pub modules_to_save: &'a [String],
    /// The adapters that the method attached to the model.
    pub adapters: &'a AdapterSet,
    /// What is trained.
    pub trainables: &'a Trainables,
    /// The device that it is computed on.
    pub device: Device,
}

impl Tuned<'_> {
    /// The weights of an equivalent plain model for one run of the stack; `None` if the method cannot be merged.
    ///
    /// # Errors
    /// When a tensor is missing.
    pub fn merged(&self, run: i64) -> Result<Option<Weights>> {
        if self.method.unmergeable().is_some() {
            return Ok(None);
        }
        // Merged before it is rounded: an update may be smaller than half a step of the frozen weight's dtype.
        let (model_spec, weights) = (self.base.model_spec(), self.base.weights());
        let merged = merge(model_spec, weights, self.adapters, self.trainables, run)?;
        let mut used = merged.to_kind(self.kind)?;
        for name in model_spec.head.iter().flat_map(HeadSpec::tensors) {
            used.insert(&name, merged.get(&name)?.shallow_clone());
        }
        Ok(Some(used))
    }

    /// Does something with the model of one run of the stack, which shares its tensors with the stack.
    ///
    /// # Errors
    /// When there is no such run; errors of `act`.
    pub fn with_run<T>(&self, run: i64, act: impl FnOnce(&Tuned<'_>) -> Result<T>) -> Result<T> {
        let trainables = self.trainables.of_run(run)?;
        let (model_spec, weights) = (self.base.model_spec(), self.weights);
        let adapters = methods::attach(self.method, self.modules_to_save, model_spec, weights, &trainables)?;
        act(&Tuned { trainables: &trainables, adapters: &adapters, ..*self })
    }
}

/// A task with the data and the model of a group of runs.
pub trait PreparedTask: TrainTask {
    /// Work done once before the first step, and again after an interruption.
    ///
    /// # Errors
    /// When data cannot be read, or a signal asked to stop.
    fn before_training(
        &mut self,
        tuned: &Tuned<'_>,
        resources: &mut Resources,
        control: &mut RunControl<'_>,
    ) -> Result<()> {
        let _ = (tuned, resources, control);
        Ok(())
    }

    /// Evaluates runs of the group, each given by its index and the folder that its answers are written to; the scores
    /// are `None` for a run whose model computes numbers that are not finite: it diverged.
    ///
    /// # Errors
    /// When data cannot be read, a file cannot be written, or a signal asked to stop.
    fn evaluate(
        &mut self,
        tuned: &Tuned<'_>,
        runs: &[(usize, &Path)],
        stop: &StopFlag,
    ) -> Result<Vec<Option<EvalScores>>>;

    /// The data set for the record, including what was evaluated; `scores` is `None` if the run diverged.
    ///
    /// # Errors
    /// When the registry's entry cannot be serialised.
    fn dataset(&self, scores: Option<&EvalScores>) -> Result<Dataset>;

    /// What truncation to a number of tokens removed from the training data.
    fn truncation(&self) -> Option<Truncation> {
        None
    }

    /// Where the time outside the training steps went.
    fn times(&self) -> Times;
}

/// The results of an evaluation.
#[derive(Debug, Clone, Default)]
pub struct EvalScores {
    /// The score in [0, 1]; over several sets, the unweighted mean.
    pub score: Option<f64>,
    /// Name of the score.
    pub metric: String,
    /// Samples that were evaluated, over all sets.
    pub evaluated: u32,
    /// Largest absolute difference between merged and unmerged logits on one batch.
    pub merge_difference: Option<f64>,
    /// Share of the generated texts in which no answer was found.
    pub no_answer: Option<f64>,
    /// Mean loss on a neutral text before and after fine-tuning.
    pub forgetting: Option<Forgetting>,
    /// The results of each set, if there are several.
    pub evaluations: Vec<Evaluation>,
    /// Sets whose answers only a server has.
    pub pending: Vec<Pending>,
}

/// Where time went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Forward passes that computed features of the training data: part of the training.
    pub preparation: Duration,
    /// Evaluation, without data loading.
    pub evaluation: Duration,
    /// Reading and decoding.
    pub data_wait: Duration,
}

/// The splits that a stage trains on and evaluates on.
pub fn splits(stage: Stage) -> (Split, Split) {
    match stage {
        Stage::Tune => (Split::Train, Split::Val),
        Stage::Final => (Split::TrainVal, Split::Test),
    }
}

/// A set of which `evaluated` samples are evaluated; the training samples are not counted yet.
fn dataset(name: &str, entry: &DatasetEntry, evaluated: usize, checksum: &str) -> Result<Dataset> {
    let group = serde_json::to_value(entry.group)?;
    let group = group.as_str().ok_or_else(|| anyhow::anyhow!("the group of {name} is not a string"))?;
    Ok(Dataset {
        name: name.to_owned(),
        group: group.to_owned(),
        order: entry.order,
        classes: entry.classes,
        train: 0,
        test: u32::try_from(evaluated)?,
        checksum: checksum.to_owned(),
        source: None,
    })
}
