//! Restricts and changes a profile by command-line options.

use std::collections::BTreeMap;
use std::path::PathBuf;

use san_core::methods::{self, UNTRAINED};
use serde_json::{Map, Value};

use crate::config::choice::MethodChoice;
use crate::config::experiment::{MethodSpec, OneOrMany, Profile};
use crate::config::overrides::MethodOverride;
use crate::resources::DataSource;
use crate::tasks::protocol::check_counts;

/// Restrictions and changes from the command line.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only the profile's entries for these methods.
    pub only_methods: Option<Vec<String>>,
    /// These methods instead of the profile's; their rates are the profile's unless they have their own.
    pub methods: Vec<MethodChoice>,
    /// These learning rates instead of the methods'; several are tuned over.
    pub learning_rate: Option<Vec<f64>>,
    /// Only these sets.
    pub sets: Option<Vec<String>>,
    /// This folder or file of one's own instead of the profile's sets.
    pub own_set: Option<PathBuf>,
    /// These models instead of the profile's.
    pub models: Option<Vec<String>>,
    /// These seeds instead of the profile's.
    pub seeds: Option<Vec<u64>>,
    /// This number of epochs instead of the protocol's.
    pub epochs: Option<u64>,
}

impl Selection {
    /// The profile with the changes; `suite` is the experiment's.
    ///
    /// # Errors
    /// A clause that states what does not fit.
    pub fn apply(&self, profile: &Profile, suite: &str) -> Result<Profile, String> {
        let mut profile = profile.clone();
        self.select_sets(&mut profile)?;
        self.select_methods(&mut profile)?;
        if let Some(models) = &self.models {
            profile.backbones.clone_from(models);
        }
        if let Some(seeds) = &self.seeds {
            profile.seeds.clone_from(seeds);
        }
        if let Some(epochs) = self.epochs {
            set_epochs(&mut profile, epochs)?;
        }
        profile.check(suite)?;
        Ok(profile)
    }

    fn select_sets(&self, profile: &mut Profile) -> Result<(), String> {
        if let Some(path) = &self.own_set {
            let fault = |reason: String| format!("--set {}: {reason}", path.display());
            let whole = std::fs::canonicalize(path).map_err(|error| fault(error.to_string()))?;
            let name = if whole.is_file() { whole.file_stem() } else { whole.file_name() };
            let name = name.ok_or_else(|| fault("it is not a folder or a file".into()))?;
            profile.sets = vec![name.to_string_lossy().into_owned()];
            profile.data = DataSource::Folder(path.display().to_string());
        }
        if let Some(sets) = &self.sets {
            unknown("set", sets, &profile.sets)?;
            profile.sets.retain(|set| sets.contains(set));
        }
        let sets = &profile.sets;
        profile.for_sets.retain(|set, _| sets.contains(set));
        profile.methods.iter_mut().for_each(|spec| spec.for_sets.retain(|set, _| sets.contains(set)));
        Ok(())
    }

    fn select_methods(&self, profile: &mut Profile) -> Result<(), String> {
        if let Some(methods) = &self.only_methods {
            let known: Vec<_> = profile.methods.iter().map(|spec| spec.method.clone()).collect();
            for name in methods {
                methods::find(name, Map::new()).map_err(|error| error.to_string())?;
            }
            unknown("method", methods, &known)?;
            profile.methods.retain(|spec| methods.contains(&spec.method));
        }
        if let Some(rates) = &self.learning_rate {
            let trained = profile.methods.iter_mut().filter(|spec| spec.method != UNTRAINED);
            trained.for_each(|spec| set_rates(spec, one_or_many(rates)));
        }
        if !self.methods.is_empty() {
            let chosen = self.methods.iter().map(|choice| self.spec(choice, &profile.methods));
            profile.methods = chosen.collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    /// The profile's entry for a method with the choice's options and rates.
    fn spec(&self, choice: &MethodChoice, known: &[MethodSpec]) -> Result<MethodSpec, String> {
        let MethodChoice { method, options, learning_rate, adapter } = choice;
        let listed = known.iter().find(|spec| spec.method == *method).cloned();
        let common = self.learning_rate.as_deref().map(one_or_many);
        let rates = learning_rate.clone().or(common.filter(|_| method != UNTRAINED));
        if listed.is_none() && rates.is_none() && method != UNTRAINED {
            return Err(format!(
                "the profile has no learning rate for `{method}`: add --learning-rate, or write \
                 `{method}(learning_rate=1e-3)`"
            ));
        }
        let mut spec =
            listed.unwrap_or_else(|| MethodSpec { method: method.clone(), ..MethodSpec::default() });
        if let Some(adapter) = adapter {
            // The adapter has options of its own.
            spec.options = Map::new();
            spec.adapter = Some(adapter.clone());
        }
        spec.options.extend(options.clone());
        if let Some(rates) = rates {
            set_rates(&mut spec, rates);
        }
        Ok(spec)
    }
}

fn one_or_many(rates: &[f64]) -> OneOrMany {
    match rates {
        [one] => OneOrMany::One(*one),
        many => OneOrMany::Many(many.to_vec()),
    }
}

/// Replaces all learning rates of a method: also those of single sets and backbones, and those that are searched.
fn set_rates(spec: &mut MethodSpec, rates: OneOrMany) {
    spec.learning_rate = rates;
    let without = |own: &mut BTreeMap<String, MethodOverride>| {
        own.values_mut().for_each(|one| one.learning_rate = None);
    };
    without(&mut spec.for_sets);
    without(&mut spec.for_backbones);
    if let Some(search) = &mut spec.search {
        search.learning_rate = None;
    }
}

fn set_epochs(profile: &mut Profile, epochs: u64) -> Result<(), String> {
    check_counts(&[("--epochs", epochs.into())])?;
    profile.protocol.epochs = epochs;
    let mut warmup = 0;
    if let Some(task) = &mut profile.protocol.classification {
        task.warmup_epochs = task.warmup_epochs.min(epochs - 1);
        warmup = task.warmup_epochs;
        let cooldown = &mut task.schedule.cooldown_epochs;
        *cooldown = (*cooldown).min(epochs - 1 - warmup);
    }
    let common = profile.for_sets.values_mut().chain(profile.for_backbones.values_mut());
    common.for_each(|one| shorten(&mut one.protocol, epochs, warmup));
    for spec in &mut profile.methods {
        shorten(&mut spec.protocol, epochs, warmup);
        let own = spec.for_sets.values_mut().chain(spec.for_backbones.values_mut());
        own.for_each(|one| shorten(&mut one.protocol, epochs, warmup));
    }
    Ok(())
}

/// Makes fields of a protocol fit a number of epochs and of warm-up epochs.
fn shorten(fields: &mut Map<String, Value>, epochs: u64, warmup: u64) {
    fields.remove("epochs");
    let Some(section) = fields.get_mut("classification").and_then(Value::as_object_mut) else { return };
    let lower = |value: Option<&mut Value>, most: u64| {
        if let Some(value) = value.filter(|value| value.as_u64().is_some_and(|epochs| epochs > most)) {
            *value = most.into();
        }
    };
    lower(section.get_mut("warmup_epochs"), epochs - 1);
    let schedule = section.get_mut("schedule").and_then(Value::as_object_mut);
    lower(schedule.and_then(|schedule| schedule.get_mut("cooldown_epochs")), epochs - 1 - warmup);
}

fn unknown(what: &str, asked: &[String], known: &[String]) -> Result<(), String> {
    match asked.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(format!("this profile has no {what} `{name}`; it has {}", known.join(", "))),
        None => Ok(()),
    }
}
