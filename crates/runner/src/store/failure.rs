//! Runs that failed: a note in the store, until the next run tries them again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::io::files::{create_folder, entries, write_json, writing};
use crate::store::Store;

/// Folder of the notes in a store.
const FOLDER: &str = ".failed";

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The run for a reader.
    pub label: String,
    /// What happened.
    pub reason: String,
    /// Exit code of what happened.
    pub code: u8,
}

fn path(store: &Store, run: &str) -> PathBuf {
    store.folder.join(FOLDER).join(run)
}

/// Whether a run failed.
pub fn has_failed(store: &Store, run: &str) -> bool {
    path(store, run).is_file()
}

/// Notes that a run is not to be tried again in this run.
///
/// # Errors
/// When the folder cannot be written.
pub fn mark_failed(store: &Store, run: &str, label: &str, reason: &str, code: u8) -> Result<(), RunError> {
    create_folder(&store.folder.join(FOLDER))?;
    write_json(&path(store, run), &Failure { label: label.into(), reason: reason.into(), code })
}

/// Notes that the runs of a group, except those that are done, are not to be tried again in this run.
///
/// # Errors
/// When the folder cannot be written.
pub fn mark_group(
    store: &Store,
    runs: &[String],
    label: &str,
    reason: &str,
    code: u8,
) -> Result<(), RunError> {
    let open = runs.iter().filter(|run| !store.is_done(run));
    open.into_iter().try_for_each(|run| mark_failed(store, run, label, reason, code))
}

/// Forgets the note of a run, which is then tried again.
///
/// # Errors
/// When the folder cannot be written.
pub fn clear(store: &Store, run: &str) -> Result<(), RunError> {
    let path = path(store, run);
    if path.exists() { writing(&path, std::fs::remove_file(&path)) } else { Ok(()) }
}

/// All notes, in the order of their runs' names.
pub fn all(store: &Store) -> Vec<Failure> {
    let mut paths = entries(&store.folder.join(FOLDER));
    paths.sort();
    let read = |path: PathBuf| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
    paths.into_iter().filter_map(read).collect()
}

/// The note of a run.
pub fn of(store: &Store, run: &str) -> Option<Failure> {
    serde_json::from_slice(&std::fs::read(path(store, run)).ok()?).ok()
}
