//! A run: one training, described by everything that its result depends on, and named by the hash of it.

use report::record::canonical_hash;
use san_core::methods::{self, Method};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use report::record::Stage;

use crate::resources::DataSource;
use crate::tasks::Protocol;

/// One setting of everything that is tuned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Learning rate at the top of the schedule.
    pub learning_rate: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Fields of the task's protocol that are searched.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub task: Map<String, Value>,
    /// Options of the method that are searched.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
}

/// One training, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Name of the experiment.
    pub experiment: String,
    /// The suite whose table it fills.
    pub suite: String,
    /// The profile.
    pub profile: String,
    /// For choosing settings, or for the table.
    pub stage: Stage,
    /// Name in the registry of data sets, or of the suite where one model learns from all of its sets.
    pub set: String,
    /// The sets that one model learns from and is evaluated on; empty where it is `set` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
    /// Where its data come from.
    pub data: DataSource,
    /// Checksum of the data.
    pub data_checksum: String,
    /// Name in the registry of backbones, with `@random` at its end for random weights.
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
    /// Name of the row in a table, where the method's own would differ between the row's runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// Seed of initialisation and sampling.
    pub seed: u64,
    /// Everything else about the run.
    pub protocol: Protocol,
}

impl Run {
    /// The run's name: blake3, in hex, of its contents in a canonical form.
    ///
    /// # Errors
    /// When it cannot be serialised: runs without a name of their own would be taken for one another.
    pub fn name(&self) -> Result<String, serde_json::Error> {
        Ok(canonical_hash(&serde_json::to_value(self)?))
    }

    /// The method with its options.
    ///
    /// # Errors
    /// When the method or an option is unknown.
    pub fn method(&self) -> Result<Box<dyn Method>, san_core::Error> {
        methods::find(&self.method, self.options.clone())
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

    /// Number of settings that its own was chosen from; 1 where it was fixed.
    pub fn budget(&self) -> usize {
        self.chosen_from.len().max(self.searched.len()).max(1)
    }

    /// The run with other settings.
    ///
    /// # Errors
    /// For a field that the task does not have, by its name.
    pub fn with(&self, trial: &Trial) -> Result<Self, String> {
        let mut run = self.clone();
        run.learning_rate = trial.learning_rate;
        run.protocol = self.protocol.with_task_fields(&trial.task)?;
        run.protocol.weight_decay = trial.weight_decay;
        Ok(run)
    }

    /// The run for a reader.
    pub fn label(&self) -> String {
        format!("{} {} seed {} lr {}", self.set_label(), self.method, self.seed, self.learning_rate)
    }

    /// The set's name in every output: `mini/<set>` where it is synthetic.
    pub fn set_label(&self) -> String {
        match self.data {
            DataSource::Drawn(_) => format!("mini/{}", self.set),
            _ => self.set.clone(),
        }
    }
}
