//! Restricts and changes a profile by command-line options.

use std::path::PathBuf;

use san_core::methods;

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
            if let Some(task) = &mut profile.protocol.classification {
                task.warmup_epochs = task.warmup_epochs.min(epochs - 1);
            }
        }
        Ok(profile)
    }
}

fn unknown(what: &str, asked: &[String], known: &[String]) -> Result<(), String> {
    match asked.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(format!("this profile has no {what} `{name}`; it has {}", known.join(", "))),
        None => Ok(()),
    }
}
