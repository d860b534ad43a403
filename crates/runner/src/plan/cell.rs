//! A cell: one training run, described by all that its result depends on, and named by its hash.

use san_core::methods::{self, Method};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use serde_json::Value;

pub use report::record::Stage;
use report::record::canonical_hash;

use crate::config::experiment::{DataSource, Protocol};
use crate::config::search::Trial;

/// One training run, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Name of the experiment.
    pub experiment: String,
    /// The suite whose table it fills.
    pub suite: String,
    /// The profile.
    pub profile: String,
    /// For choosing a learning rate, or for the table.
    pub stage: Stage,
    /// Name in the registry of data sets.
    pub set: String,
    /// The sets that a language model is read on, once it is tuned; empty where it is `set` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
    /// Where its images come from.
    pub data: DataSource,
    /// Checksum of the images and labels.
    pub data_checksum: String,
    /// Name in the registry of backbones, `@random` behind it for random weights.
    pub backbone: String,
    /// Checksum of the weights.
    pub weights_checksum: String,
    /// Name in the registry of methods.
    pub method: String,
    /// The method's options, all of them.
    pub options: Map<String, Value>,
    /// Learning rate at the top of the schedule.
    pub learning_rate: f64,
    /// The rates that it was chosen from on `val`; empty where it was fixed.
    pub chosen_from: Vec<f64>,
    /// The settings that were chosen from, where more than rates was tuned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searched: Vec<Trial>,
    /// Name of the row in a table, where the method's own would differ between the row's cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// Seed of initialisation and sampling.
    pub seed: u64,
    /// Everything else about the run.
    pub protocol: Protocol,
}

impl Cell {
    /// The cell's name: blake3, in hex, of its contents in a canonical form.
    pub fn name(&self) -> String {
        canonical_hash(&serde_json::to_value(self).unwrap_or_default())
    }

    /// The method with its options.
    ///
    /// # Errors
    /// When the method or an option is unknown.
    pub fn method(&self) -> Result<Box<dyn Method>, san_core::Error> {
        methods::find(&self.method, self.options.clone())
    }

    /// Tensors that are trained whole in addition to the method.
    pub fn modules_to_save(&self) -> Vec<String> {
        self.protocol.modules_to_save(&self.method)
    }

    /// Name of the row in a table.
    ///
    /// # Errors
    /// When the method or an option is unknown.
    pub fn row_label(&self) -> Result<String, san_core::Error> {
        match &self.row {
            Some(row) => Ok(row.clone()),
            None => Ok(self.method()?.label()),
        }
    }

    /// How many settings its own was chosen from; 1 where it was fixed.
    pub fn budget(&self) -> usize {
        self.chosen_from.len().max(self.searched.len()).max(1)
    }

    /// The cell with other settings.
    pub fn with(&self, trial: &Trial) -> Self {
        let mut cell = self.clone();
        cell.learning_rate = trial.learning_rate;
        cell.protocol.weight_decay = trial.weight_decay;
        cell.protocol.drop_path = trial.drop_path;
        cell
    }

    /// The cell for a reader.
    pub fn label(&self) -> String {
        format!("{} {} seed {} lr {}", self.set_label(), self.method, self.seed, self.learning_rate)
    }

    /// The set's name in every output: `mini/<set>` where it is drawn.
    pub fn set_label(&self) -> String {
        match self.data {
            DataSource::Drawn(_) => format!("mini/{}", self.set),
            _ => self.set.clone(),
        }
    }
}
