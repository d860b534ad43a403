//! A run: one training, described by everything that its result depends on, and named by the hash of that.

use report::record::canonical_hash;
use san_core::methods::{self, Method};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use report::record::Stage;

use crate::models::place;
use crate::resources::DataSource;
use crate::tasks::Protocol;
use crate::tasks::protocol::AdamWState;

/// One setting of everything that is tuned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Peak learning rate of the schedule.
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

/// One training, fully resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Name of the experiment.
    pub experiment: String,
    /// The suite whose table it belongs to.
    pub suite: String,
    /// The profile.
    pub profile: String,
    /// Whether it selects settings or belongs to the table.
    pub stage: Stage,
    /// Name in the registry of data sets, or of the suite if one model is trained on all of its sets.
    pub set: String,
    /// The sets that one model is trained and evaluated on; empty if it is only `set`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
    /// Where its data come from.
    pub data: DataSource,
    /// Checksum of the data.
    pub data_checksum: String,
    /// Name in the registry of backbones, or the path of a folder, with the suffix `@random` for random weights.
    pub backbone: String,
    /// Checksum of the weights.
    pub weights_checksum: String,
    /// Name in the registry of methods.
    pub method: String,
    /// All options of the method.
    pub options: Map<String, Value>,
    /// The adapter that its training starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<StartingAdapter>,
    /// Peak learning rate of the schedule.
    pub learning_rate: f64,
    /// The rates that it was selected from on `val`; empty if it was fixed.
    pub chosen_from: Vec<f64>,
    /// The settings that it was selected from, if more than the rate was tuned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searched: Vec<Trial>,
    /// Name of the row in a table, if the method's own name would differ between the row's runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// Seed of initialisation and sampling.
    pub seed: u64,
    /// Everything else about how it is trained and evaluated.
    pub protocol: Protocol,
}

/// A saved adapter that a training starts from, in place of the method's initial values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartingAdapter {
    /// A folder saved by peft, the folder of a finished run, or an adapter file.
    pub path: String,
    /// blake3 of its file.
    pub checksum: String,
}

impl Run {
    /// The run's name: blake3, in hex, of its contents in canonical form.
    ///
    /// # Errors
    /// When it cannot be serialised: runs without unique names would be confused.
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
            None => self.method()?.label(),
        }
    }

    /// Whether it is never trained together with others: its state is in bf16 because memory is scarce.
    pub fn is_trained_alone(&self) -> bool {
        self.protocol.adamw.state != AdamWState::F32
    }

    /// Number of settings that its own were selected from; 1 if they were fixed.
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

    /// A short description of the run.
    pub fn label(&self) -> String {
        format!("{} {} seed {} lr {}", self.set_label(), self.method, self.seed, self.learning_rate)
    }

    /// The backbone's name in every output: that of its folder, if it is given by its path.
    pub fn backbone_label(&self) -> String {
        place::label(&self.backbone)
    }

    /// The set's name in every output: `mini/<set>` if it is synthetic.
    pub fn set_label(&self) -> String {
        match self.data {
            DataSource::Synthetic(_) => format!("mini/{}", self.set),
            _ => self.set.clone(),
        }
    }
}
