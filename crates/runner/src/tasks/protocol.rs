//! How one run is made: what every task's protocol has, and the one task that it is for.
//!
//! Each task has a section of its own, with its own type. A field that a task does not know is an error there, so that
//! nothing is written, hashed and printed that changes nothing.

use san_core::methods::UNTRAINED;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::tasks::Task;
use crate::tasks::classification::Classification;
use crate::tasks::instruction_following::InstructionFollowing;
use crate::tasks::visual_question_answering::VisualQuestionAnswering;

/// How one run is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Passes over the training samples.
    pub epochs: u64,
    /// Samples a step.
    pub batch_size: usize,
    /// AdamW's decoupled weight decay of matrices.
    #[serde(default)]
    pub weight_decay: f64,
    /// Images to classify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification: Option<Classification>,
    /// Rows of instruction and answer; one model learns from those of all sets.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "serde_yaml::with::singleton_map_recursive"
    )]
    pub instruction_following: Option<InstructionFollowing>,
    /// Questions about pictures; one model learns from those of all sets.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "serde_yaml::with::singleton_map_recursive"
    )]
    pub visual_question_answering: Option<VisualQuestionAnswering>,
}

impl Protocol {
    /// The sections that are there; an experiment has exactly one.
    fn tasks(&self) -> Vec<&dyn Task> {
        let classification = self.classification.as_ref().map(|task| task as &dyn Task);
        let instructions = self.instruction_following.as_ref().map(|task| task as &dyn Task);
        let questions = self.visual_question_answering.as_ref().map(|task| task as &dyn Task);
        [classification, instructions, questions].into_iter().flatten().collect()
    }

    /// The task that it is for.
    ///
    /// # Errors
    /// When it names none, or several.
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

    /// Tensors of the base model that are trained whole in addition to a method that trains.
    ///
    /// # Errors
    /// As [`Protocol::task`].
    pub fn modules_to_save(&self, method: &str) -> Result<Vec<String>, String> {
        let modules = self.task()?.modules_to_save().filter(|_| method != UNTRAINED);
        Ok(modules.map_or_else(Vec::new, |(names, _)| names))
    }

    /// What the types cannot say.
    ///
    /// # Errors
    /// A clause with what is wrong.
    pub fn check(&self) -> Result<(), String> {
        check_counts(&[("epochs", self.epochs), ("batch_size", self.batch_size as u64)])?;
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return Err("`weight_decay` must be 0 or more".into());
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

/// Refuses a number of epochs, samples or tokens that no experiment has; no product of two then overflows.
pub(crate) fn check_counts(counts: &[(&str, u64)]) -> Result<(), String> {
    const MOST: u64 = 1_000_000;
    match counts.iter().find(|(_, count)| !(1..=MOST).contains(count)) {
        Some((field, count)) => Err(format!("`{field}` is {count}; a number from 1 to {MOST} is wanted")),
        None => Ok(()),
    }
}
