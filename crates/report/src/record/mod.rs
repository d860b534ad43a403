//! The record of one run: what was run, on what, with what result.
//!
//! The runner writes one `record.json` into the run's folder when the run ends; this crate turns
//! many of them into tables and figures. The file holds all that a sceptical reader would ask for:
//! the resolved configuration, checksums of data and weights, the code's commit, the machine, the
//! parameters counted apart, and times and memory. Unknown fields are refused, so that a record of
//! another schema is never misread; the checksums of the other files of the run, and of the record
//! itself, show what was altered later.

mod integrity;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use integrity::canonical_hash;

/// Version of the record's layout; raised whenever a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// Name of the record's file in a run's folder.
pub const RECORD_FILE: &str = "record.json";

/// Name of the adapter-only weights in a run's folder (safetensors; f32; leading stack dimension).
pub const ADAPTER_FILE: &str = "adapter.safetensors";

/// Name of the file with the resolved configuration of a run.
pub const CONFIGURATION_FILE: &str = "run.json";

/// Name of the file with a line a step.
pub const STEPS_FILE: &str = "steps.jsonl";

/// Name of the file with a line an epoch.
pub const EPOCHS_FILE: &str = "epochs.jsonl";

/// One finished (or diverged) run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`] of the program that wrote the record.
    pub schema: u32,
    /// The run's name: blake3, in hex, of its resolved configuration (`cell` in records of former versions).
    #[serde(alias = "cell")]
    pub run: String,
    /// Name of the experiment file, for example `vtab`.
    pub experiment: String,
    /// `vtab`, `fgvc`, `gic`, `commonsense` or `vl`.
    pub suite: String,
    /// `embedded`, `small` or `paper`; records of different profiles are never averaged.
    pub profile: String,
    /// What the run was for.
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
    /// Numbers of parameters.
    pub parameters: Parameters,
    /// What was measured.
    pub metrics: Metrics,
    /// What it cost.
    pub cost: Cost,
    /// Where and with what it was made.
    pub provenance: Provenance,
    /// blake3, in hex, of every other file in the run's folder, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// blake3, in hex, of this file with the digits of this field replaced by zeros.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Trained on train, read on val, to choose hyper-parameters.
    Tune,
    /// Trained on train+val with the chosen ones, test read once.
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
    /// `cifar100`, or `mini/cifar100` for a procedurally drawn stand-in.
    pub name: String,
    /// The suite's group, for example `natural`; group means are taken over it.
    pub group: String,
    /// Place of the set in its suite's table, from 0.
    pub order: u32,
    /// Number of classes.
    pub classes: u32,
    /// Images that were trained on.
    pub train: u32,
    /// Images that were evaluated.
    pub test: u32,
    /// blake3 of the data that were read (file lists and files, or the generator's parameters).
    pub checksum: String,
}

/// The frozen model of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backbone {
    /// Name in the registry, for example `vit_micro`.
    pub name: String,
    /// blake3 of the weights file; `random:<seed>` where it was drawn.
    pub checksum: String,
}

/// The method of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Registry name: `linear`, `fft`, `lora`, `ssf`, `san`, ...
    pub name: String,
    /// The row's name in a table: the registry name, and what distinguishes it (`SAN (full)`).
    pub label: String,
    /// The method's own options, resolved.
    pub config: serde_json::Value,
    /// Place of the method in a table, from 0; records of former versions do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// Names under which other papers' tables list it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published_as: Vec<String>,
}

/// Numbers of parameters; the head is always apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// All parameters of the backbone, without head.
    pub backbone: u64,
    /// Trained parameters, without head.
    pub trainable: u64,
    /// Parameters of the head.
    pub head: u64,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// The score in [0, 1] on the split that the stage evaluates (val, or test); none if diverged.
    pub accuracy: Option<f64>,
    /// What the score is (`top-1 accuracy`, `F1`); records of former versions do not say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metric: String,
    /// Mean training loss of the last epoch.
    pub train_loss: Option<f64>,
    /// Largest absolute difference between merged and unmerged logits on one batch.
    pub merge_difference: Option<f64>,
    /// Mean training loss of each epoch.
    pub loss_history: Vec<f64>,
    /// Steps of the optimiser that were taken.
    pub steps: u64,
    /// The best accuracy of any epoch on the test split: the peers' convention, which is optimistic. It is
    /// shown beside [`Metrics::accuracy`] and nothing is chosen by it; none where it was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_selected: Option<f64>,
    /// Share of the generated texts in which no answer was found (such a text counts as wrong).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_answer: Option<f64>,
    /// Mean loss on a neutral text before and after tuning, where forgetting is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<Forgetting>,
    /// What the cut to a number of tokens took of the training rows, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncation: Option<Truncation>,
    /// Where a model that was trained once is read on several sets: what each gave. [`Metrics::accuracy`] and
    /// [`Metrics::no_answer`] are then the unweighted means over them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evaluations: Vec<Evaluation>,
    /// Sets that were read and whose answers only a server knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Pending>,
}

/// A set that only a server can score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// Name of the set.
    pub dataset: String,
    /// The file for the server, beside the record.
    pub file: String,
}

/// Training rows that were too long for the protocol's number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truncation {
    /// Rows in all.
    pub rows: usize,
    /// Rows that were cut.
    pub truncated: usize,
    /// Of these, rows that lost their answer, or its end.
    pub answers_lost: usize,
}

/// Mean loss, in nats a token, on a fixed text that no set contains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forgetting {
    /// Of the frozen model.
    pub before: f64,
    /// Of the tuned model.
    pub after: f64,
}

/// What a model that was trained once gave on one of several sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The set that was read; `train` counts the rows of the training mixture.
    pub dataset: Dataset,
    /// The score in [0, 1].
    pub accuracy: f64,
    /// What the score is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metric: String,
    /// Share of the texts in which no answer was found; none where every reading gives an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_answer: Option<f64>,
    /// Further numbers of this set by name, in [0, 1] (precision, recall, f1, yes-ratio, ...).
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub further: std::collections::BTreeMap<String, f64>,
}

/// What the run cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Seconds of training, without evaluation and preparation of data.
    pub train_seconds: f64,
    /// Seconds of evaluation.
    pub evaluate_seconds: f64,
    /// Seconds of reading, drawing or decoding data.
    pub data_seconds: f64,
    /// Peak resident memory of the worker during the run, bytes; none where it cannot be read, or a GPU computed.
    pub peak_memory: Option<u64>,
    /// Bytes of the adapter file.
    pub adapter_bytes: u64,
}

/// Where and with what a record was made.
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
    /// `cpu`, or the GPU's name.
    pub device: String,
    /// Compute threads of the worker.
    pub threads: u32,
    /// When the run ended, seconds since 1970.
    pub finished_at: u64,
}

/// A record could not be read, or is not what was written.
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
    /// The file is not a record of this schema.
    #[error("{path} is not a record of schema {SCHEMA}: {source}")]
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
    /// Why the record cannot be true, where its fields contradict each other.
    pub fn contradiction(&self) -> Option<String> {
        match (self.state, self.metrics.accuracy) {
            (State::Finished, None) => Some("it is finished and has no accuracy".into()),
            (State::Diverged, Some(accuracy)) => Some(format!("it diverged and has the accuracy {accuracy}")),
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

/// The folder that a file lies in.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
