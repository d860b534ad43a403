//! Restricts and changes a profile by command-line options.

use std::path::PathBuf;

use san_core::methods;
use serde_json::{Map, Value};

use crate::config::experiment::Profile;
use crate::resources::DataSource;
use crate::tasks::protocol::check_counts;

/// Restrictions and changes from the command line.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only these methods.
    pub methods: Option<Vec<String>>,
    /// Only these sets.
    pub sets: Option<Vec<String>>,
    /// This folder of one's own images instead of the profile's sets.
    pub own_set: Option<PathBuf>,
    /// These backbones instead of the profile's.
    pub backbones: Option<Vec<String>>,
    /// The first N seeds.
    pub seeds: Option<usize>,
    /// This number of epochs instead of the protocol's.
    pub epochs: Option<u64>,
}

impl Selection {
    pub(crate) fn apply(&self, profile: &Profile) -> Result<Profile, String> {
        let mut profile = profile.clone();
        if let Some(folder) = &self.own_set {
            let name = std::fs::canonicalize(folder)
                .map_err(|error| format!("--set {}: {error}", folder.display()))?;
            let name = name.file_name().map(|name| name.to_string_lossy().into_owned());
            profile.sets = vec![name.ok_or_else(|| format!("--set {} is not a folder", folder.display()))?];
            profile.data = DataSource::Folder(folder.display().to_string());
        }
        if let Some(sets) = &self.sets {
            unknown("set", sets, &profile.sets)?;
            profile.sets.retain(|set| sets.contains(set));
        }
        if let Some(methods) = &self.methods {
            let known: Vec<_> = profile.methods.iter().map(|spec| spec.method.clone()).collect();
            for name in methods {
                methods::find(name, serde_json::Map::new()).map_err(|error| error.to_string())?;
            }
            unknown("method", methods, &known)?;
            profile.methods.retain(|spec| methods.contains(&spec.method));
        }
        if let Some(backbones) = &self.backbones {
            profile.backbones.clone_from(backbones);
        }
        if let Some(seeds) = self.seeds {
            if seeds == 0 || seeds > profile.seeds.len() {
                return Err(format!("--seeds must be 1 to {}", profile.seeds.len()));
            }
            profile.seeds.truncate(seeds);
        }
        if let Some(epochs) = self.epochs {
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
        }
        Ok(profile)
    }
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
