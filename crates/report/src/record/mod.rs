//! The record of one run: its configuration, data, model and results.
//!
//! The runner writes one `record.json` into the run's folder when the run ends; this crate turns
//! many of them into tables and figures. The file contains everything needed to verify a result: the resolved
//! configuration, checksums of data and weights, the code's commit, the machine, the parameter counts, and times and
//! memory. Unknown fields are rejected, so that a record of another schema is never misread; the checksums of the other
//! files of the run, and of the record itself, reveal later changes.

mod integrity;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use integrity::canonical_hash;

/// Version of the record's schema; incremented whenever a field changes its name or meaning. Records of all versions are
/// read: in version 1 the run is called `cell`, and the protocol has the fields of all tasks side by side.
pub const SCHEMA: u32 = 2;

/// Name of the record's file in a run's folder.
pub const RECORD_FILE: &str = "record.json";

/// Name of the adapter-only weights in a run's folder (safetensors; f32; leading stack dimension).
pub const ADAPTER_FILE: &str = "adapter.safetensors";

/// Name of the file with the resolved configuration of a run.
pub const CONFIGURATION_FILE: &str = "run.json";

/// Name of the file with one line per step.
pub const STEPS_FILE: &str = "steps.jsonl";

/// Name of the file with one line per epoch.
pub const EPOCHS_FILE: &str = "epochs.jsonl";

/// One finished (or diverged) run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`] of the program that wrote the record.
    pub schema: u32,
    /// The run's name: blake3, in hex, of its resolved configuration (`cell` in records of earlier versions).
    #[serde(alias = "cell")]
    pub run: String,
    /// Name of the experiment file, for example `vtab`.
    pub experiment: String,
    /// `vtab`, `fgvc`, `gic`, `commonsense` or `vl`.
    pub suite: String,
    /// `embedded`, `small` or `paper`; records of different profiles are never averaged.
    pub profile: String,
    /// The stage of the run.
    pub stage: Stage,
    /// How the run ended.
    pub state: State,
    /// The data set.
    pub dataset: Dataset,
    /// The frozen model.
    pub backbone: Backbone,
    /// The method under test.
    pub method: Method,
    /// The seed of initialisation and sampling.
    pub seed: u64,
    /// Every protocol choice, as resolved (learning rate, epochs, transforms, ...).
    pub protocol: serde_json::Value,
    /// Parameter counts.
    pub parameters: Parameters,
    /// The measured results.
    pub metrics: Metrics,
    /// The cost of the run.
    pub cost: Cost,
    /// The environment in which it was produced.
    pub provenance: Provenance,
    /// blake3, in hex, of every other file in the run's folder, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// blake3, in hex, of this file with the digits of this field replaced by zeros.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// The stage of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Trained on train and evaluated on val, to choose hyperparameters.
    Tune,
    /// Trained on train+val with the chosen hyperparameters and evaluated once on test.
    Final,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Trained to the last step.
    Finished,
    /// A loss, a gradient, a trained parameter or a logit was not finite; it has no test metric.
    Diverged,
}

/// The data set of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// `cifar100`, or `mini/cifar100` for a synthetic task.
    pub name: String,
    /// The suite's group, for example `natural`; group means are taken over it.
    pub group: String,
    /// Position of the set in its suite's table, from 0.
    pub order: u32,
    /// Number of classes.
    pub classes: u32,
    /// Number of training items.
    pub train: u32,
    /// Number of evaluated items.
    pub test: u32,
    /// blake3 of the data that were read (file lists and files, or the generator's parameters).
    pub checksum: String,
    /// Whose split it is: `VTAB-1k` for the lists of the benchmark, `VTAB-1k style` for another split of its sets,
    /// `synthetic`; absent in records of earlier versions and for sets of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// The frozen model of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backbone {
    /// Name in the registry, for example `vit_micro`.
    pub name: String,
    /// blake3 of the weights file; `random:<seed>` for randomly initialised weights.
    pub checksum: String,
}

/// The method of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Registry name: `linear`, `fft`, `lora`, `ssf`, `san`, ...
    pub name: String,
    /// The row's name in a table: its label, and the options that distinguish it (`SAN (full)`).
    pub label: String,
    /// The method's options, resolved.
    pub config: serde_json::Value,
    /// Position of the method in a table, from 0; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// Names under which other papers' tables list it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published_as: Vec<String>,
}

/// Parameter counts; the head is always counted separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// All parameters of the backbone, without the head.
    pub backbone: u64,
    /// Trainable parameters, without the head.
    pub trainable: u64,
    /// Parameters of the head.
    pub head: u64,
}

/// The measured results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// The metric in [0, 1] on the split that the stage evaluates (val or test); `None` if the run diverged.
    pub accuracy: Option<f64>,
    /// Name of the metric (`top-1 accuracy`, `F1`); absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metric: String,
    /// Mean training loss of the last epoch.
    pub train_loss: Option<f64>,
    /// Largest absolute difference between merged and unmerged logits on one batch.
    pub merge_difference: Option<f64>,
    /// Mean training loss of each epoch.
    pub loss_history: Vec<f64>,
    /// Number of optimiser steps.
    pub steps: u64,
    /// The evaluation on held-out training examples whose weights were kept instead of the last ones, if the protocol
    /// selects them so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Selected>,
    /// The best accuracy of any epoch on the test split: a common convention in the literature, which is optimistic. It
    /// is shown next to [`Metrics::accuracy`] and never used for selection; `None` if it was not evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_selected: Option<f64>,
    /// Fraction of the generated texts without a recognised answer (counted as wrong).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_answer: Option<f64>,
    /// Mean loss on a neutral text before and after fine-tuning, where forgetting is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<Forgetting>,
    /// Effect of truncating the training rows to a maximum length, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncation: Option<Truncation>,
    /// Results per set, where a model that was trained once is evaluated on several sets. [`Metrics::accuracy`] and
    /// [`Metrics::no_answer`] are then the unweighted means over them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evaluations: Vec<Evaluation>,
    /// Evaluated sets that only a server can score.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Pending>,
}

/// An evaluation on held-out training examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selected {
    /// Optimiser steps before it.
    pub step: u64,
    /// The mean loss.
    pub loss: f64,
}

/// A set that only a server can score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// Name of the set.
    pub dataset: String,
    /// The submission file for the server, next to the record.
    pub file: String,
    /// The set, so that its score can be entered later; records of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Dataset>,
}

/// Training rows that exceeded the protocol's maximum length in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truncation {
    /// Number of rows.
    pub rows: usize,
    /// Truncated rows.
    pub truncated: usize,
    /// Truncated rows that lost their answer, or its end.
    pub answers_lost: usize,
}

/// Mean loss, in nats per token, on a fixed text that is in none of the sets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forgetting {
    /// Of the frozen model.
    pub before: f64,
    /// Of the fine-tuned model.
    pub after: f64,
}

/// The result of a model that was trained once on one of several sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The evaluated set; `train` counts the rows of the training mixture.
    pub dataset: Dataset,
    /// The metric in [0, 1].
    pub accuracy: f64,
    /// Name of the metric.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metric: String,
    /// Fraction of the texts without a recognised answer; `None` if every evaluation yields an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_answer: Option<f64>,
    /// Additional metrics of this set by name, in [0, 1] (precision, recall, f1, yes-ratio, ...).
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub further: std::collections::BTreeMap<String, f64>,
}

/// The cost of a run. If runs were trained together, times are the run's share of those of its group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Training time in seconds, without evaluation and data preparation.
    pub train_seconds: f64,
    /// Evaluation time in seconds.
    pub evaluate_seconds: f64,
    /// Time spent reading, generating or decoding data, in seconds.
    pub data_seconds: f64,
    /// Peak memory during the run, bytes, with all runs of its group: resident memory of the worker, or on a GPU that of
    /// libtorch's tensors; `None` if it cannot be read.
    pub peak_memory: Option<u64>,
    /// Peak resident memory of the worker of a GPU, bytes; absent on a processor, where it is `peak_memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_memory: Option<u64>,
    /// Number of runs that were trained together, with this one.
    #[serde(default = "alone", skip_serializing_if = "is_alone")]
    pub group_size: u32,
    /// Examples in a micro-batch; absent if a step is computed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch_size: Option<u32>,
    /// Whether activations were recomputed in the backward pass.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gradient_checkpointing: bool,
    /// Size of the adapter file in bytes.
    pub adapter_bytes: u64,
}

fn alone() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
fn is_alone(group_size: &u32) -> bool {
    *group_size == 1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The environment in which a record was produced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Commit of the code, or `unknown`.
    pub commit: String,
    /// Whether the working tree had uncommitted changes.
    pub dirty: bool,
    /// Version of this program.
    pub version: String,
    /// Version of libtorch.
    pub libtorch: String,
    /// `cpu` or `cuda(0)`, with the model of the processor or GPU: `cuda(0): NVIDIA H100 80GB HBM3`.
    pub device: String,
    /// UUID of the GPU, as its driver prints it; absent on a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_uuid: Option<String>,
    /// Compute threads of the worker.
    pub threads: u32,
    /// When the run ended, seconds since 1970.
    pub finished_at: u64,
}

/// A record could not be read, or was changed after it was written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file could not be read.
    #[error("cannot read the record {path}: {source}")]
    Read {
        /// The record's file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file was written by a later version of the program.
    #[error("{path} was written with record schema {found}; this program reads schemas 1 to {SCHEMA}")]
    Schema {
        /// The record's file.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
    /// The file is not a record.
    #[error("{path} is not a record: {source}")]
    Parse {
        /// The record's file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The record, or a file that it lists, contradicts it.
    #[error("{path} {reason}; remove the folder {}, and `san run` trains it again", folder_of(path).display())]
    Altered {
        /// The file.
        path: PathBuf,
        /// What is wrong, as a clause.
        reason: String,
    },
}

impl Record {
    /// Why the record is invalid, where its fields contradict each other.
    pub fn contradiction(&self) -> Option<String> {
        match (self.state, self.metrics.accuracy) {
            (State::Finished, None) => Some("it is finished but has no accuracy".into()),
            (State::Diverged, Some(accuracy)) => Some(format!("it diverged but has the accuracy {accuracy}")),
            (State::Finished, Some(accuracy)) if !(0.0..=1.0).contains(&accuracy) => {
                Some(format!("its accuracy {accuracy} is outside [0, 1]"))
            }
            (State::Finished, _) => {
                let outside =
                    self.metrics.evaluations.iter().find(|one| !(0.0..=1.0).contains(&one.accuracy));
                outside.map(|one| {
                    format!("its accuracy {} on {} is outside [0, 1]", one.accuracy, one.dataset.name)
                })
            }
            _ => None,
        }
    }
}

/// The parent folder of a file.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
