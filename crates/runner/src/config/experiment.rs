//! The experiment file: a sweep, in the terms that papers use.
//!
//! A profile names data, backbones, methods, seeds and a protocol. A method's learning rate is a number, which is used
//! as it is, or a list, which is tuned: each rate is trained on `train` and evaluated on `val`, separately for each
//! set, and the best one is then trained on `train` + `val`. A `search` tunes more than the rate. Every method has the
//! same number of settings to choose from, unless the file allows otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use data_loaders::{QuestionForm, SplitCounts};
use san_core::methods::UNTRAINED;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::Selection;
use crate::config::overrides::{MethodOverride, ProtocolOverride};
use crate::config::search::Search;
use crate::error::RunError;
use crate::resources::DataSource;
use crate::tasks::Protocol;
use crate::tasks::protocol::check_counts;

/// The maximum size of an experiment file, in bytes; the largest one in use is 4 kB.
const MOST_BYTES: u64 = 1 << 20;
/// The maximum number of brackets in one; the parser's time grows with the square of the nesting depth.
const MOST_BRACKETS: usize = 10_000;

/// The profile that is used unless another one is asked for.
const USUAL_PROFILE: &str = "embedded";

/// A sweep.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Name of the experiment; its results are stored under it.
    pub name: String,
    /// The suite whose table it produces.
    pub suite: String,
    /// By name: `embedded`, `small`, `paper`.
    pub profiles: BTreeMap<String, Profile>,
}

/// One way of running an experiment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Where the data come from.
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub data: DataSource,
    /// Names in the registry of data sets.
    pub sets: Vec<String>,
    /// Names in the registry of backbones or of folders in `SAN_WEIGHTS`, or paths of folders; the suffix `@random`
    /// selects random weights.
    pub backbones: Vec<String>,
    /// Fields of the protocol for single sets, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub for_sets: BTreeMap<String, ProtocolOverride>,
    /// Fields of the protocol for single backbones, by name; also of some that only the command line selects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub for_backbones: BTreeMap<String, ProtocolOverride>,
    /// Rows of the table.
    pub methods: Vec<MethodSpec>,
    /// One run is made for each.
    pub seeds: Vec<u64>,
    /// Whether methods may be tuned over different numbers of settings, which favours those with more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unequal_budgets: bool,
    /// How one run is trained and evaluated.
    pub protocol: Protocol,
}

/// A method with its options and learning rates.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodSpec {
    /// Name in the registry of methods.
    pub method: String,
    /// One rate, or several to tune over; may be left to `search`.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub learning_rate: OneOrMany,
    /// The method's own options.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// Only these of the profile's backbones; all of them if omitted. A method may not fit every architecture.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backbones: Vec<String>,
    /// A saved adapter of this method that every training starts from: a folder saved by peft, the folder of a finished
    /// run, or an adapter file. Options that are not given are the adapter's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// What else is tuned, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// Fields of the protocol for this method.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub protocol: Map<String, Value>,
    /// Its settings for single sets, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub for_sets: BTreeMap<String, MethodOverride>,
    /// Its settings for single backbones, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub for_backbones: BTreeMap<String, MethodOverride>,
}

/// A number, or a list of them to choose from on `val`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
        let bytes = san_core::io::files::read(path, MOST_BYTES).map_err(|error| match error {
            san_core::Error::File { source, .. } => wrong(source.to_string()),
            other => wrong(other.to_string()),
        })?;
        let experiment = Self::parse(&bytes).map_err(wrong)?;
        Ok(experiment)
    }

    /// The experiment with one profile alone, changed by a selection: the file that says the same as the command line.
    ///
    /// # Errors
    /// A clause, when there is no such profile, or the selection does not fit it.
    pub fn selected(&self, profile: Option<&str>, selection: &Selection) -> Result<Self, String> {
        let (name, profile) = self.profile(profile)?;
        let profile = selection.apply(profile, &self.suite)?;
        Ok(Self { profiles: BTreeMap::from([(name.clone(), profile)]), ..self.clone() })
    }

    /// The profile of that name; if none is asked for, the only one, or `embedded`.
    ///
    /// # Errors
    /// A clause, when there is no such profile.
    pub fn profile(&self, name: Option<&str>) -> Result<(&String, &Profile), String> {
        let known = || self.profiles.keys().cloned().collect::<Vec<_>>().join(", ");
        let found = match name {
            Some(name) => self.profiles.get_key_value(name),
            None if self.profiles.len() == 1 => self.profiles.first_key_value(),
            None => self.profiles.get_key_value(USUAL_PROFILE),
        };
        let name = name.unwrap_or(USUAL_PROFILE);
        found.ok_or_else(|| format!("there is no profile `{name}`; the file has {}", known()))
    }

    /// Parses the contents of a file.
    ///
    /// # Errors
    /// A clause that states what is wrong: an unknown, missing or wrong field, or a limit that is exceeded.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| format!("it is not UTF-8: {error}"))?;
        // Editors write a byte-order mark, which the parser takes for text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.bytes().filter(|byte| b"[{".contains(byte)).count() > MOST_BRACKETS {
            return Err(format!("it has more than {MOST_BRACKETS} opening brackets"));
        }
        let experiment: Self = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        for name in std::iter::once(&experiment.name).chain(experiment.profiles.keys()) {
            // Both become names of folders under the results.
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!("`{name}` is not a name: use letters, digits, `_` and `-`"));
            }
        }
        for (name, profile) in &experiment.profiles {
            profile.check(&experiment.suite).map_err(|reason| format!("profile `{name}`: {reason}"))?;
        }
        Ok(experiment)
    }
}

impl Profile {
    /// Checks what the types cannot express.
    pub(crate) fn check(&self, suite: &str) -> Result<(), String> {
        let empty = [
            ("sets", self.sets.is_empty()),
            ("backbones", self.backbones.is_empty()),
            ("methods", self.methods.is_empty()),
            ("seeds", self.seeds.is_empty()),
        ];
        if let Some((field, _)) = empty.iter().find(|(_, empty)| *empty) {
            return Err(format!("`{field}` is empty"));
        }
        if matches!(self.data, DataSource::Folder(_)) && self.sets.len() != 1 {
            return Err("`data: {folder: ...}` is one set: `sets` must have one name".into());
        }
        let protocol = &self.protocol;
        protocol.check()?;
        if let DataSource::Synthetic(SplitCounts { train, val, test }) = self.data {
            check_counts(&[("train", train as i128), ("val", val as i128), ("test", test as i128)])?;
        }
        let units: Vec<String> =
            protocol.task()?.units(suite, &self.sets).into_iter().map(|unit| unit.set).collect();
        self.check_overrides(&units)?;
        let backbones: BTreeSet<&String> = self.backbones.iter().chain(self.for_backbones.keys()).collect();
        for (set, backbone) in units.iter().flat_map(|set| backbones.iter().map(move |name| (set, *name))) {
            self.check_budgets(set, backbone)?;
        }
        Ok(())
    }

    /// Checks the settings of every method on a set and a backbone, and that each has as many as the others.
    fn check_budgets(&self, set: &str, backbone: &str) -> Result<(), String> {
        let mut budgets = Vec::new();
        // A method that trains nothing has nothing to tune.
        let trained = |spec: &&MethodSpec| spec.method != UNTRAINED && spec.is_for(backbone);
        for spec in self.methods.iter().filter(trained) {
            let trials = self.resolved(spec, set, backbone).and_then(|one| one.spec.trials(&one.protocol));
            let is_plain = self.for_sets.is_empty() && spec.for_sets.is_empty();
            let trials = trials.map_err(|reason| match is_plain {
                true => reason,
                false => format!("{}: {reason}", Self::place(spec, set, backbone)),
            })?;
            budgets.push((trials.len(), &spec.method));
        }
        self.check_source(&budgets)?;
        match (budgets.iter().min(), budgets.iter().max()) {
            (Some((least, poor)), Some((most, rich))) if least < most && !self.unequal_budgets => {
                Err(format!(
                    "`{poor}` has {least} and `{rich}` {most} settings to choose from: give each method the same tuning budget, or set `unequal_budgets: true`"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Checks that there is something to train on and, if methods are tuned, something to select on; `budgets` are
    /// their numbers of settings.
    fn check_source(&self, budgets: &[(usize, &String)]) -> Result<(), String> {
        let tuned = budgets.iter().find(|(settings, _)| *settings > 1);
        let (nothing_to_choose_by, field) = match &self.data {
            DataSource::Rows { source, .. } => (source.val_rows == 0, "val_rows"),
            DataSource::Questions { source, .. } => (source.val_questions == 0, "val_questions"),
            DataSource::Synthetic(_) | DataSource::Files(_) | DataSource::Folder(_) => (false, ""),
        };
        if let Some((settings, method)) = tuned.filter(|_| nothing_to_choose_by) {
            return Err(format!("`{method}` has {settings} settings to choose from and `{field}` is 0"));
        }
        let own_questions = |set: &String| {
            let questions = data_loaders::dataset(set).ok().and_then(|entry| entry.questions);
            questions.is_none_or(|questions| matches!(questions.form, QuestionForm::Small(_)))
        };
        match &self.data {
            DataSource::Questions { source, .. }
                if !budgets.is_empty()
                    && source.mixture.is_empty()
                    && !self.sets.iter().any(own_questions) =>
            {
                Err("`sets` are for testing only: add a `mixture` of conversations to train on".into())
            }
            _ => Ok(()),
        }
    }
}

impl MethodSpec {
    /// Whether it is run on a backbone.
    pub fn is_for(&self, backbone: &str) -> bool {
        // `@random` selects weights, not a model.
        let backbone = backbone.split('@').next().unwrap_or(backbone);
        self.backbones.is_empty() || self.backbones.iter().any(|name| name == backbone)
    }
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
    fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// All of the rates.
    pub fn all(&self) -> &[f64] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}
