//! The folder of an experiment's runs: one folder per run, with locks, failures and checkpoints next to them.

pub mod failure;
pub mod lock;

use std::path::{Path, PathBuf};

use report::record::{RECORD_FILE, Record};

/// Where the runs of an experiment's profile are stored.
#[derive(Debug, Clone)]
pub struct Store {
    /// `<results>/runs/<experiment>/<profile>`.
    pub folder: PathBuf,
}

impl Store {
    /// The store of a plan under a results folder.
    pub fn new(results: &Path, experiment: &str, profile: &str) -> Self {
        Self { folder: results.join("runs").join(experiment).join(profile) }
    }

    /// The path of a run's folder, whether or not it exists.
    pub fn run(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether a run is done: its record exists, belongs to this run, and is unaltered. Anything else in its place is
    /// replaced by the next run.
    pub fn is_done(&self, name: &str) -> bool {
        Record::read(&self.run(name).join(RECORD_FILE))
            .is_ok_and(|record| record.run == name && record.contradiction().is_none())
    }
}
