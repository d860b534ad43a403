//! The experiment file: what a sweep is, in words that a reader of a paper would use.
//!
//! A profile names data, backbones, methods, seeds and a protocol. A method's learning rate is a
//! number, which is used as it is, or a list, which is tuned: each is trained on `train` and read on
//! `val`, for each set apart, and the best is then trained on `train` + `val`. A `search` tunes more than
//! the rate. Every method has the same number of settings to choose from, unless the file says otherwise.

use std::collections::BTreeMap;
use std::path::Path;

use data_loaders::SplitCounts;
use san_core::methods::UNTRAINED;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::search::Search;
use crate::error::RunError;
use crate::resources::DataSource;
use crate::tasks::Protocol;

/// A sweep.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Name of the experiment; its results lie under it.
    pub name: String,
    /// The suite whose table it fills.
    pub suite: String,
    /// By name: `embedded`, `small`, `paper`.
    pub profiles: BTreeMap<String, Profile>,
}

/// One way of running an experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Where data come from.
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub data: DataSource,
    /// Names in the registry of data sets.
    pub sets: Vec<String>,
    /// Names in the registry of backbones; `@random` behind one takes random weights.
    pub backbones: Vec<String>,
    /// Rows of the table.
    pub methods: Vec<MethodSpec>,
    /// One run for each.
    pub seeds: Vec<u64>,
    /// Whether methods may be tuned over different numbers of settings, which favours those with more.
    #[serde(default)]
    pub unequal_budgets: bool,
    /// How one run is made.
    pub protocol: Protocol,
}

/// A method with its options and learning rates.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodSpec {
    /// Name in the registry of methods.
    pub method: String,
    /// One rate, or several to tune over; may be left to `search`.
    #[serde(default)]
    pub learning_rate: OneOrMany,
    /// The method's own options.
    #[serde(default)]
    pub options: Map<String, Value>,
    /// What else is tuned, or how.
    #[serde(default)]
    pub search: Option<Search>,
}

/// A number, or a list of them to choose from on `val`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// Fixed.
    One(f64),
    /// Tuned.
    Many(Vec<f64>),
}

impl Experiment {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or has an unknown, missing or wrong field.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let wrong = |reason: String| RunError::Experiment { path: path.into(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let experiment: Self = serde_yaml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        for name in std::iter::once(&experiment.name).chain(experiment.profiles.keys()) {
            // Both become names of folders under the results.
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
            if name.is_empty() || !name.chars().all(plain) {
                return Err(wrong(format!("`{name}` is not a name: use letters, digits, `_` and `-`")));
            }
        }
        for (name, profile) in &experiment.profiles {
            profile.check().map_err(|reason| wrong(format!("profile `{name}`: {reason}")))?;
        }
        Ok(experiment)
    }
}

impl Profile {
    /// What the types cannot say.
    fn check(&self) -> Result<(), String> {
        let empty = [
            ("sets", self.sets.is_empty()),
            ("backbones", self.backbones.is_empty()),
            ("methods", self.methods.is_empty()),
            ("seeds", self.seeds.is_empty()),
        ];
        if let Some((field, _)) = empty.iter().find(|(_, empty)| *empty) {
            return Err(format!("`{field}` is empty"));
        }
        if let DataSource::Drawn(SplitCounts { train, val, test }) = self.data
            && [train, val, test].contains(&0)
        {
            return Err("`train`, `val` and `test` of drawn data must be 1 or more".into());
        }
        let protocol = &self.protocol;
        protocol.check()?;
        let mut budgets = Vec::new();
        // What trains nothing has nothing to tune.
        for spec in self.methods.iter().filter(|spec| spec.method != UNTRAINED) {
            budgets.push((spec.trials(protocol)?.len(), &spec.method));
        }
        match (budgets.iter().min(), budgets.iter().max()) {
            (Some((least, poor)), Some((most, rich))) if least < most && !self.unequal_budgets => {
                Err(format!(
                    "`{poor}` has {least} and `{rich}` {most} settings to choose from: give each method the same \
                 tuning budget, or say `unequal_budgets: true`"
                ))
            }
            _ => Ok(()),
        }
    }
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    /// All of them.
    pub fn all(&self) -> &[f64] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}
