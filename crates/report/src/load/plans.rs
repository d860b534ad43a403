//! Which runs make up a table: everything that the commands of an experiment have requested so far.
//!
//! A store also holds runs of earlier settings, and some of a table's runs may be unfinished. Each `san run` therefore
//! adds the runs that it requests to the plan of their settings (data and protocol), in `plans/` of the store. A later
//! command that requests a subset of them or other methods, or that runs concurrently with another one, adds to the
//! plan and removes nothing from it; a run whose learning rate was chosen again replaces the earlier one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ReportError;
use crate::files::write_atomically;
use crate::record::canonical_hash;

/// Folder of the plans in a store.
pub const PLANS_FOLDER: &str = "plans";

/// The lock that commands hold while they change a plan.
const LOCK: &str = ".lock";

/// A position in a table, filled by one run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Name of the backbone; each has its own table.
    pub backbone: String,
    /// The row.
    pub label: String,
    /// The data set, or the suite where one model learns from all sets.
    pub dataset: String,
    /// The seed.
    pub seed: u64,
}

/// A requested run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRun {
    /// Name of its folder.
    pub name: String,
    /// Its position in the table.
    pub place: Place,
    /// Why it was left out: it does not fit into the memory of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub does_not_fit: Option<String>,
}

/// The runs of one experiment, profile and choice of settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// Data and protocol, which all runs share except for what is tuned.
    pub settings: Value,
    /// By position, in order.
    pub runs: Vec<PlannedRun>,
}

impl RunPlan {
    /// The first digits of the settings' hash, which distinguish the plans of a store.
    pub fn id(&self) -> String {
        canonical_hash(&self.settings)[..8].to_owned()
    }

    /// Adds runs; each replaces the run that had its position.
    fn add(&mut self, runs: Vec<PlannedRun>) {
        let places = self.runs.drain(..).chain(runs).map(|run| (run.place.clone(), run));
        let places: BTreeMap<Place, PlannedRun> = places.collect();
        self.runs = places.into_values().collect();
    }

    /// Adds the runs of this plan to the plan of the same settings in the store.
    ///
    /// # Errors
    /// When the store cannot be written, or its plan cannot be read.
    pub fn add_to(&self, store: &Path) -> Result<(), ReportError> {
        let folder = store.join(PLANS_FOLDER);
        let write = |path: &Path, source| ReportError::Write { path: path.into(), source };
        fs::create_dir_all(&folder).map_err(|error| write(&folder, error))?;
        let lock = folder.join(LOCK);
        let held = File::create(&lock).and_then(|file| file.lock().map(|()| file));
        let _held = held.map_err(|error| write(&lock, error))?;
        let path = folder.join(format!("{}.json", self.id()));
        let mut plan = if path.is_file() {
            read(&path)?
        } else {
            Self { settings: self.settings.clone(), runs: Vec::new() }
        };
        plan.add(self.runs.clone());
        let text = serde_json::to_vec_pretty(&plan).map_err(|error| write(&path, error.into()))?;
        write_atomically(&path, |scratch| fs::write(scratch, text))
    }
}

/// The plans of a store, in the order of their names; empty where nothing was run.
///
/// # Errors
/// When one cannot be read.
pub fn plans_of(store: &Path) -> Result<Vec<RunPlan>, ReportError> {
    let folder = store.join(PLANS_FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let error = |source| ReportError::Folder { path: folder.clone(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|ending| ending == "json") && !is_hidden(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn read(path: &Path) -> Result<RunPlan, ReportError> {
    let fault = |reason: String| ReportError::Plan { path: PathBuf::from(path), reason };
    let text = fs::read(path).map_err(|error| fault(error.to_string()))?;
    let plan: RunPlan = serde_json::from_slice(&text).map_err(|error| fault(error.to_string()))?;
    if path.file_stem().is_none_or(|stem| stem.to_string_lossy() != plan.id()) {
        return Err(fault("its settings do not match its file name".into()));
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(epochs: u64, runs: &[(&str, u64, &str)]) -> RunPlan {
        let run = |(label, seed, name): &(&str, u64, &str)| PlannedRun {
            name: (*name).into(),
            place: Place {
                backbone: "vit_micro".into(),
                label: (*label).into(),
                dataset: "a".into(),
                seed: *seed,
            },
            does_not_fit: None,
        };
        RunPlan { settings: json!({"epochs": epochs}), runs: runs.iter().map(run).collect() }
    }

    fn names(store: &Path) -> Vec<Vec<String>> {
        let plans = plans_of(store).unwrap();
        plans.into_iter().map(|plan| plan.runs.into_iter().map(|run| run.name).collect()).collect()
    }

    #[test]
    fn a_command_that_requests_a_subset_keeps_the_rest_of_the_plan() {
        let store = tempfile::tempdir().unwrap();
        assert!(plans_of(store.path()).unwrap().is_empty());
        plan(2, &[("lora", 0, "a"), ("lora", 1, "b"), ("san", 0, "c")]).add_to(store.path()).unwrap();
        plan(2, &[("lora", 1, "d")]).add_to(store.path()).unwrap();
        assert_eq!(names(store.path()), [["a", "d", "c"]]);
        plan(3, &[("lora", 1, "e")]).add_to(store.path()).unwrap();
        assert_eq!(names(store.path()).concat().len(), 4, "other settings have a separate plan");
    }

    #[test]
    fn concurrent_commands_do_not_lose_each_others_runs() {
        let store = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for seed in 0..8 {
                let store = store.path();
                scope.spawn(move || {
                    plan(2, &[("lora", seed, &format!("run {seed}"))]).add_to(store).unwrap();
                });
            }
        });
        assert_eq!(names(store.path())[0].len(), 8);
    }

    #[test]
    fn an_altered_plan_is_rejected_with_its_name() {
        let store = tempfile::tempdir().unwrap();
        let plan = plan(2, &[("lora", 0, "a")]);
        plan.add_to(store.path()).unwrap();
        let path = store.path().join(PLANS_FOLDER).join(format!("{}.json", plan.id()));
        let text = fs::read_to_string(&path).unwrap();
        for altered in [text.replace("\"epochs\": 2", "\"epochs\": 3"), text[..20].to_owned()] {
            fs::write(&path, altered).unwrap();
            let message = plans_of(store.path()).unwrap_err().to_string();
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
    }
}
