//! Which worker has a run or a group of runs: a locked file that contains a heartbeat.
//!
//! The operating system releases the lock when the process dies, so that no lock outlives its worker and two runners
//! never execute the same run. The file's contents are informational: they lock nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::io::files::{create_folder, entries, file_name, writing};
use crate::store::Store;
use crate::train::checkpoint;

/// Folder of the locks in a store.
const FOLDER: &str = ".locks";
/// Prefix of a scratch folder's name; the run's name follows.
pub const SCRATCH: &str = ".scratch-";
/// A lock whose heartbeat is older is not shown as running.
pub const STALE_AFTER: Duration = Duration::from_secs(60);

/// A worker's heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The run's label.
    pub label: String,
    /// Name of the machine.
    pub host: String,
    /// The worker's process.
    pub process: u32,
    /// Steps done.
    pub done: u64,
    /// Total steps; 0 before training starts.
    pub total: u64,
}

/// The exclusive right to execute a run, held until this is dropped.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    path: PathBuf,
}

impl RunLock {
    /// Locks a run; `None` if another worker has it.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn take(store: &Store, run: &str) -> Result<Option<Self>, RunError> {
        let folder = store.folder.join(FOLDER);
        create_folder(&folder)?;
        let path = folder.join(run);
        loop {
            // Not truncated: it may hold another worker's heartbeat.
            let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let file = writing(&path, options)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return writing(&path, Err(error)),
            }
            // The previous owner may have removed the file after we opened and before we locked it; the lock of a
            // removed file excludes nobody.
            let ours = writing(&path, file.metadata())?.ino();
            if std::fs::metadata(&path).is_ok_and(|there| there.ino() == ours) {
                return Ok(Some(Self { file, path }));
            }
        }
    }

    /// Writes a heartbeat; a full disk must not stop the work because of it.
    pub fn write_heartbeat(&mut self, heartbeat: &Heartbeat) {
        let mut write = || {
            let text = serde_json::to_vec(heartbeat)?;
            self.file.rewind()?;
            self.file.write_all(&text)?;
            self.file.set_len(text.len() as u64)
        };
        let _ = write();
    }

    /// Releases the run.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn release(self) -> Result<(), RunError> {
        writing(&self.path, std::fs::remove_file(&self.path))
    }
}

/// The exclusive right to execute the runs of a group. Each run is locked too, since another process may have packed the
/// same runs into other groups.
#[derive(Debug)]
pub struct GroupLock {
    group: RunLock,
    /// Empty for a group of one run, whose name is that of its run.
    runs: Vec<RunLock>,
}

impl GroupLock {
    /// Locks the group named `group` of the runs named `runs`; `None` if another worker has it or one of its runs.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn take(store: &Store, group: &str, runs: &[String]) -> Result<Option<Self>, RunError> {
        let Some(lock) = RunLock::take(store, group)? else { return Ok(None) };
        let mut locked = Self { group: lock, runs: Vec::new() };
        for run in runs.iter().filter(|_| runs.len() > 1) {
            match RunLock::take(store, run)? {
                Some(lock) => locked.runs.push(lock),
                None => {
                    locked.release()?;
                    return Ok(None);
                }
            }
        }
        Ok(Some(locked))
    }

    /// See [`RunLock::write_heartbeat`].
    pub fn write_heartbeat(&mut self, heartbeat: &Heartbeat) {
        self.group.write_heartbeat(heartbeat);
    }

    /// Releases the group.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn release(self) -> Result<(), RunError> {
        self.runs.into_iter().try_for_each(RunLock::release)?;
        self.group.release()
    }
}

/// The last heartbeats of the runs in progress in a store. Takes no locks: even a brief one would turn a worker away.
pub fn running(store: &Store) -> Vec<Heartbeat> {
    let read = |path: PathBuf| {
        let mut file = File::open(&path).ok()?;
        let age = SystemTime::now().duration_since(file.metadata().ok()?.modified().ok()?);
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        let heartbeat: Heartbeat = serde_json::from_str(&text).ok()?;
        (age.unwrap_or_default() < STALE_AFTER && lives(&heartbeat)).then_some(heartbeat)
    };
    entries(&store.folder.join(FOLDER)).into_iter().filter_map(read).collect()
}

/// Whether the process is alive, as far as this machine can tell.
fn lives(heartbeat: &Heartbeat) -> bool {
    heartbeat.host != host() || !Path::new("/proc/self").exists() || proc_folder(heartbeat.process).exists()
}

fn proc_folder(process: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{process}"))
}

/// Name of this machine.
pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Removes what dead workers left: scratch folders, partial checkpoints, and checkpoints of runs that are done.
///
/// # Errors
/// When the folder cannot be written.
pub fn clean(store: &Store) -> Result<(), RunError> {
    for path in entries(&store.folder) {
        if let Some(run) = file_name(&path).strip_prefix(SCRATCH) {
            unless_claimed(store, run, || remove(&path, |path| std::fs::remove_dir_all(path)))?;
        }
    }
    for path in entries(&store.folder.join(checkpoint::FOLDER)) {
        let (group, partial) = checkpoint::group_of(file_name(&path));
        let is_needed = || match checkpoint::runs_of(&store.folder, group) {
            Some(runs) => !runs.iter().all(|run| store.is_done(run)),
            // A damaged one is reported when its runs start again; logs without a checkpoint are of no use.
            None => checkpoint::exists(&store.folder, group) && !store.is_done(group),
        };
        if partial || !is_needed() {
            unless_claimed(store, group, || remove(&path, |path| std::fs::remove_file(path)))?;
        }
    }
    for path in entries(&store.folder.join(FOLDER)) {
        unless_claimed(store, file_name(&path), || Ok(()))?;
    }
    Ok(())
}

/// Removes a file or folder that another runner may already have removed.
fn remove(path: &Path, remove: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), RunError> {
    match remove(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => writing(path, result),
    }
}

/// Does something to the files of a run, unless a live worker has locked the run.
fn unless_claimed(
    store: &Store,
    run: &str,
    act: impl FnOnce() -> Result<(), RunError>,
) -> Result<(), RunError> {
    if let Some(claim) = RunLock::take(store, run)? {
        act()?;
        claim.release()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_one_lock_which_ends_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { folder: folder.path().into() };
        let mut first = RunLock::take(&store, "run").unwrap().unwrap();
        let heartbeat =
            Heartbeat { label: "a".into(), host: host(), process: std::process::id(), done: 1, total: 2 };
        first.write_heartbeat(&Heartbeat { label: "longer".into(), ..heartbeat.clone() });
        first.write_heartbeat(&heartbeat);
        assert!(RunLock::take(&store, "run").unwrap().is_none());
        clean(&store).unwrap();
        assert_eq!(running(&store), [heartbeat], "neither a claim in vain nor cleaning touches it");
        drop(first);
        RunLock::take(&store, "run").unwrap().unwrap().release().unwrap();
        assert!(running(&store).is_empty());
    }

    #[test]
    fn a_lock_is_exclusive_while_others_clean_and_lock() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { folder: folder.path().into() };
        let holders = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        if let Some(claim) = RunLock::take(&store, "run").unwrap() {
                            assert_eq!(holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            std::thread::yield_now();
                            holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            claim.release().unwrap();
                        }
                    }
                });
            }
        });
    }
}
