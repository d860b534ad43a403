//! How one run is trained and evaluated: the fields that every task's protocol has, and the one task that it is for.
//!
//! Each task has its own section, with its own type. A field that a task does not know is an error, so that nothing is
//! written, hashed and printed that has no effect.

use data_loaders::ImageProtocol;
use san_core::methods::UNTRAINED;
use san_core::train::adamw::AdamWSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::Kind;

use crate::tasks::Task;
use crate::tasks::classification::Classification;
use crate::tasks::instruction_following::InstructionFollowing;
use crate::tasks::language::Memory;
use crate::tasks::precision::Precision;
use crate::tasks::visual_question_answering::VisualQuestionAnswering;
use crate::train::trainer::TrainSettings;

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
    /// AdamW's other numbers.
    #[serde(default, skip_serializing_if = "AdamWNumbers::is_default")]
    pub adamw: AdamWNumbers,
    /// The norm over all trained tensors to which a gradient is clipped, as torch's `clip_grad_norm_`; not clipped if
    /// omitted. Hugging Face's `Trainer` has 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_clipping: Option<f64>,
    /// The decay of an exponential moving average of the trained tensors, which is evaluated and saved in place of the
    /// last ones, as timm's `ModelEmaV2`; none if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// The published recipe that it follows; a table lists in which fields it deviates from it
    /// (results/reference/recipes.csv).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
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

/// AdamW's numbers other than the learning rate and the weight decay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWNumbers {
    /// Decay rates of the first and the second moment, each below 1.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub epsilon: f64,
    /// The dtype of what is trained and of what AdamW keeps.
    #[serde(skip_serializing_if = "AdamWState::is_f32")]
    pub state: AdamWState,
}

/// The dtype of trained tensors, of their gradients and of AdamW's moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdamWState {
    /// 16 bytes for each trained number.
    #[default]
    F32,
    /// 8 bytes for each trained number, among them a compensation of the rounding of updates; gradients are used block by
    /// block, with `gradient_checkpointing` (docs/protocols.md).
    Bf16,
}

impl AdamWState {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
    fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// Tensors of a trained one's size in a checkpoint: the value, two moments, and the compensation of bf16.
    pub(crate) fn tensors(self) -> f64 {
        match self {
            Self::F32 => 3.0,
            Self::Bf16 => 4.0,
        }
    }

    /// The dtype.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

impl Default for AdamWNumbers {
    fn default() -> Self {
        let AdamWSettings { beta1, beta2, epsilon, .. } = AdamWSettings::default();
        Self { betas: [beta1, beta2], epsilon, state: AdamWState::F32 }
    }
}

impl AdamWNumbers {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
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

    /// Whether a step can be computed in micro-batches.
    pub fn has_micro_batches(&self) -> bool {
        self.classification.is_none()
    }

    /// The same with its steps computed in another way, which does not change what they compute.
    ///
    /// # Errors
    /// As for [`Protocol::task`].
    pub fn with_memory(&self, memory: Memory) -> Result<Self, String> {
        Ok(self.task()?.with_memory(self, memory))
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
        let AdamWNumbers { betas, epsilon, state } = self.adamw;
        if !(betas.iter().all(|beta| (0.0..1.0).contains(beta)) && epsilon.is_finite() && epsilon > 0.0) {
            return Err("`adamw`: `betas` must be at least 0 and below 1, and `epsilon` above 0".into());
        }
        if self.gradient_clipping.is_some_and(|norm| !(norm.is_finite() && norm > 0.0)) {
            return Err("`gradient_clipping` is a norm: it must be above 0".into());
        }
        if self.ema.is_some_and(|decay| !(decay > 0.0 && decay < 1.0)) {
            return Err("`ema` must be above 0 and below 1".into());
        }
        if self.ema.is_some() && state == AdamWState::Bf16 {
            return Err("`ema` changes by less than bf16 can represent: leave out one of `ema` and \
                        `adamw: {state: bf16}`"
                .into());
        }
        if let Some(recipe) = &self.recipe {
            let known = report::table::recipes::names().map_err(|error| error.to_string())?;
            if !known.contains(recipe.as_str()) {
                let known = Vec::from_iter(known).join(", ");
                return Err(format!(
                    "there is no recipe `{recipe}`; results/reference/recipes.csv has {known}"
                ));
            }
        }
        let task = self.task()?;
        if self.ema.is_some() && task.keeps_best() {
            return Err("`ema` and `select` would both replace the last weights: choose one".into());
        }
        task.check(self.epochs).map_err(|reason| format!("{}: {reason}", task.name()))
    }

    /// How a step fits into memory.
    pub fn memory(&self) -> Memory {
        let instructions = self.instruction_following.as_ref().map(|task| task.language.memory);
        let questions = self.visual_question_answering.as_ref().map(|task| task.language.memory);
        instructions.or(questions).unwrap_or_default()
    }

    /// Whether it says how images become a model's input, as far as its task has images.
    pub fn gives_input(&self) -> bool {
        let images = self.classification.as_ref().is_none_or(|task| task.image.complete().is_ok());
        let questions = self.visual_question_answering.as_ref();
        images && questions.is_none_or(|task| task.picture.complete().is_ok())
    }

    /// The protocol with `model`, the input that a model's weights were trained on, in place of what it does not give.
    ///
    /// # Errors
    /// When something is not given, and the model does not say it or it does not fit the rest.
    pub fn with_input(&self, model: impl FnOnce() -> anyhow::Result<ImageProtocol>) -> anyhow::Result<Self> {
        let mut protocol = self.clone();
        if self.gives_input() {
            return Ok(protocol);
        }
        let model = model()?;
        if let Some(task) = &mut protocol.classification {
            task.image = task.image.or(model);
        }
        if let Some(task) = &mut protocol.visual_question_answering {
            task.picture = task.picture.or(model);
        }
        protocol.check().map_err(anyhow::Error::msg)?;
        Ok(protocol)
    }

    /// How its runs are trained apart from the task.
    ///
    /// # Errors
    /// As for [`Protocol::task`].
    pub fn train_settings(&self) -> Result<TrainSettings, String> {
        let AdamWNumbers { betas: [beta1, beta2], epsilon, .. } = self.adamw;
        Ok(TrainSettings {
            adamw: AdamWSettings { beta1, beta2, epsilon, weight_decay: self.weight_decay },
            gradient_clipping: self.gradient_clipping,
            ema: self.ema,
            keep_best: self.task()?.keeps_best(),
        })
    }

    /// The protocol for a record: with every number, also those that are not written if they have their default values.
    ///
    /// # Errors
    /// When it cannot be serialised; as for [`Protocol::task`].
    pub fn recorded(&self) -> Result<Value, String> {
        let mut written = serde_json::to_value(self).map_err(|error| error.to_string())?;
        written["optimiser"] = "adamw".into();
        written["weight_decay_of"] = "matrices".into();
        written["reported"] =
            if self.task()?.keeps_best() { "lowest held-out loss" } else { "last epoch" }.into();
        written["adamw"] = serde_json::to_value(self.adamw).map_err(|error| error.to_string())?;
        written["adamw"]["state"] =
            serde_json::to_value(self.adamw.state).map_err(|error| error.to_string())?;
        let task = self.task()?;
        written[task.name()]["schedule"] = task.recorded_schedule();
        Ok(written)
    }

    /// The protocol with other values of some fields; later ones count more. A section is merged with its other fields.
    ///
    /// # Errors
    /// For an unknown field, by its name, and for a value that does not fit it.
    pub fn with_fields(&self, fields: &[&Map<String, Value>]) -> Result<Self, String> {
        if fields.iter().all(|fields| fields.is_empty()) {
            return Ok(self.clone());
        }
        let mut written = serde_json::to_value(self).map_err(|error| error.to_string())?;
        fields.iter().for_each(|fields| merge(&mut written, &Value::Object((*fields).clone())));
        let changed: Self = serde_json::from_value(written).map_err(|error| error.to_string())?;
        changed.check()?;
        Ok(changed)
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

/// Replaces values; those of objects one by one.
fn merge(value: &mut Value, other: &Value) {
    match (value, other) {
        (Value::Object(members), Value::Object(others)) => {
            for (name, other) in others {
                merge(members.entry(name.clone()).or_insert(Value::Null), other);
            }
        }
        (value, other) => *value = other.clone(),
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
