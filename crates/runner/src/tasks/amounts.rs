//! How much data a run trains on and is evaluated on, known before anything runs: the part of its cost that depends on
//! the task.

use std::collections::BTreeMap;

use data_loaders::SplitCounts;
use report::record::Stage;

use crate::tasks::Run;

/// The sizes of sets, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataSizes {
    /// Numbers of samples of each set.
    pub sets: BTreeMap<String, SplitCounts>,
    /// Training examples that belong to no set.
    pub mixture: usize,
}

impl DataSizes {
    /// The samples of a set that a stage trains on, and those that it evaluates; none of a set that is not known.
    #[allow(clippy::cast_precision_loss)]
    pub fn of_stage(&self, set: &str, stage: Stage) -> (f64, f64) {
        let Some(&SplitCounts { train, val, test }) = self.sets.get(set) else { return (0.0, 0.0) };
        match stage {
            Stage::Tune => (train as f64, val as f64),
            Stage::Final => ((train + val) as f64, test as f64),
        }
    }
}

/// The data of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Amounts {
    /// Of image classification.
    Images(ImageAmounts),
    /// Of a language model.
    Texts(TextAmounts),
}

/// The images of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageAmounts {
    /// Training images.
    pub trained: f64,
    /// Evaluated images.
    pub evaluated: f64,
    /// How often the evaluated images are evaluated, after epochs and at the end.
    pub evaluations: f64,
    /// Whether training images differ between epochs.
    pub augmented: bool,
}

/// The texts of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextAmounts {
    /// Steps of an epoch.
    pub steps: f64,
    /// The examples of an epoch.
    pub trained: Texts,
    /// The examples of all comparisons of held-out losses.
    pub held_out: Texts,
    /// Forward passes of these comparisons.
    pub held_out_passes: f64,
    /// What is evaluated at the end.
    pub evaluated: EvaluatedTexts,
    /// What the vision tower sees, if there is one.
    pub tower: Option<TowerAmounts>,
}

/// Some texts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Texts {
    /// How many.
    pub number: f64,
    /// Tokens of each, padding included; the mean.
    pub length: f64,
    /// Tokens of each whose successor is predicted.
    pub predicted: f64,
}

/// Prompts, and what is generated after them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvaluatedTexts {
    /// The prompts.
    pub prompts: Texts,
    /// Batches of prompts.
    pub batches: f64,
    /// Tokens that are generated after each prompt of a batch; 0 if options are compared.
    pub new_tokens: f64,
    /// Sequences for each prompt: beams, or options.
    pub sequences: f64,
}

/// What a vision tower sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TowerAmounts {
    /// Different pictures.
    pub pictures: f64,
    /// Pictures of an epoch's training examples, each as often as it is used.
    pub trained: f64,
    /// Pictures of the evaluated questions, each as often as it is used.
    pub evaluated: f64,
}

impl Run {
    /// The names of its sets.
    pub(super) fn set_names(&self) -> &[String] {
        if self.sets.is_empty() { std::slice::from_ref(&self.set) } else { &self.sets }
    }
}
