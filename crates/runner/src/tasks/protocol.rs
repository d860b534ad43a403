//! How one run is trained and evaluated: the fields that every task's protocol has, and the one task that it is for.
//!
//! Each task has its own section, with its own type. A field that a task does not know is an error, so that nothing is
//! written, hashed and printed that has no effect.

use san_core::methods::UNTRAINED;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::tasks::Task;
use crate::tasks::classification::Classification;
use crate::tasks::instruction_following::InstructionFollowing;
use crate::tasks::precision::Precision;
use crate::tasks::visual_question_answering::VisualQuestionAnswering;

/// How one run is trained and evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Epochs over the training samples.
    pub epochs: u64,
    /// Samples per step.
    pub batch_size: usize,
    /// AdamW's decoupled weight decay of matrices.
    #[serde(default)]
    pub weight_decay: f64,
    /// The precision of frozen weights and activations.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// Image classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification: Option<Classification>,
    /// Instruction following; one model is trained on the rows of all sets.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "serde_yaml::with::singleton_map_recursive"
    )]
    pub instruction_following: Option<InstructionFollowing>,
    /// Visual question answering; one model is trained on the questions of all sets.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "serde_yaml::with::singleton_map_recursive"
    )]
    pub visual_question_answering: Option<VisualQuestionAnswering>,
}

impl Protocol {
    /// The sections that are present; an experiment has exactly one.
    fn tasks(&self) -> Vec<&dyn Task> {
        let classification = self.classification.as_ref().map(|task| task as &dyn Task);
        let instructions = self.instruction_following.as_ref().map(|task| task as &dyn Task);
        let questions = self.visual_question_answering.as_ref().map(|task| task as &dyn Task);
        [classification, instructions, questions].into_iter().flatten().collect()
    }

    /// The task that it is for.
    ///
    /// # Errors
    /// When it has none, or several.
    pub fn task(&self) -> Result<&dyn Task, String> {
        match self.tasks()[..] {
            [task] => Ok(task),
            [] => Err("the protocol has no task: add `classification`, `instruction_following` or \
                       `visual_question_answering`"
                .into()),
            [first, second, ..] => {
                Err(format!("the protocol has two tasks, `{}` and `{}`", first.name(), second.name()))
            }
        }
    }

    /// Tensors of the base model that are trained in full in addition to a method that trains.
    ///
    /// # Errors
    /// As for [`Protocol::task`].
    pub fn modules_to_save(&self, method: &str) -> Result<Vec<String>, String> {
        let modules = self.task()?.modules_to_save().filter(|_| method != UNTRAINED);
        Ok(modules.map_or_else(Vec::new, |(names, _)| names))
    }

    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// A clause that states what is wrong.
    pub fn check(&self) -> Result<(), String> {
        check_counts(&[("epochs", self.epochs.into()), ("batch_size", self.batch_size as i128)])?;
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return Err("`weight_decay` must be at least 0".into());
        }
        let task = self.task()?;
        task.check(self.epochs).map_err(|reason| format!("{}: {reason}", task.name()))
    }

    /// The protocol with other values of its task's fields.
    ///
    /// # Errors
    /// For a field that the task does not have, by its name, and for a value that does not fit it.
    pub fn with_task_fields(&self, fields: &Map<String, Value>) -> Result<Self, String> {
        if fields.is_empty() {
            return Ok(self.clone());
        }
        let name = self.task()?.name();
        let mut written = serde_json::to_value(self).map_err(|error| error.to_string())?;
        let Some(section) = written.get_mut(name).and_then(Value::as_object_mut) else {
            return Err(format!("the protocol has no section `{name}`"));
        };
        section.extend(fields.clone());
        let changed: Self = serde_json::from_value(written).map_err(|error| format!("{name}: {error}"))?;
        changed.check()?;
        Ok(changed)
    }
}

/// Rejects an implausibly large number of epochs, samples or tokens; no product of two can then overflow.
pub(crate) fn check_counts(counts: &[(&str, i128)]) -> Result<(), String> {
    const MOST: i128 = 1_000_000;
    match counts.iter().find(|(_, count)| !(1..=MOST).contains(count)) {
        Some((field, count)) => Err(format!("`{field}` is {count}; expected a number from 1 to {MOST}")),
        None => Ok(()),
    }
}
