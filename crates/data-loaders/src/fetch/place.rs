//! A scratch folder next to the dataset's folder, renamed to it in one step; the note inside that identifies it later;
//! and the lock that keeps out other fetches of the same dataset.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fetch::FetchError;
use crate::fetch::error::{reading, writing};
use crate::fetch::lock::lock;
use crate::registry::{Distribution, Download};

/// Name of the note.
const NOTE: &str = ".san-fetched.json";

/// The sources of a fetched folder.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    set: String,
    sources: Vec<Download>,
}

impl Note {
    fn of(distribution: Distribution<'_>) -> Self {
        Self { set: distribution.name.to_owned(), sources: distribution.sources.to_vec() }
    }
}

/// Whether the folder was fetched completely, from the sources in the current registry.
pub(super) fn was_fetched(distribution: Distribution<'_>, folder: &Path) -> bool {
    let note = fs::read(folder.join(NOTE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    note.is_some_and(|note: Note| note == Note::of(distribution))
}

/// The exclusive right to fetch into a folder, held until dropped.
pub(super) struct Claim {
    path: PathBuf,
    _file: fs::File,
}

impl Claim {
    /// Locks a file next to the dataset's folder.
    pub(super) fn take(distribution: Distribution<'_>, root: &Path) -> Result<Self, FetchError> {
        let Distribution { name: set, folder, .. } = distribution;
        writing(set, root, fs::create_dir_all(root))?;
        let path = root.join(format!(".fetching-{folder}.lock"));
        match writing(set, &path, lock(&path))? {
            Some(file) => Ok(Self { path, _file: file }),
            None => Err(FetchError::Busy { set: set.to_owned(), path: root.join(folder) }),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Before the lock is released; a leftover file locks nothing.
        let _ = fs::remove_file(&self.path);
    }
}

/// A folder that is removed on drop unless it is published.
pub(super) struct Scratch {
    set: String,
    path: PathBuf,
}

impl Scratch {
    /// Creates an empty folder next to the dataset's folder, removing what an interrupted fetch left. The caller holds
    /// the [`Claim`].
    pub(super) fn create(distribution: Distribution<'_>, root: &Path) -> Result<Self, FetchError> {
        let set = distribution.name.to_owned();
        let path = root.join(format!(".fetching-{}", distribution.folder));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return writing(&set, &path, Err(error)),
            _ => {}
        }
        writing(&set, &path, fs::create_dir_all(&path))?;
        Ok(Self { set, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the folder. If the target exists, the missing entries are moved into it; if any entry exists already,
    /// that is an error and nothing is moved.
    pub(super) fn publish(self, distribution: Distribution<'_>, folder: &Path) -> Result<(), FetchError> {
        let text = writing(
            &self.set,
            &self.path,
            serde_json::to_vec_pretty(&Note::of(distribution)).map_err(Into::into),
        )?;
        let note = self.path.join(NOTE);
        let names = self.names()?;
        if let Some(name) = names.iter().find(|name| folder.join(name).exists()) {
            return Err(FetchError::InTheWay { set: self.set.clone(), path: folder.join(name) });
        }
        writing(&self.set, &note, fs::write(&note, text))?;
        self.flush();
        if folder.is_dir() {
            // The note is moved last: without it the folder does not count as complete.
            for name in names.iter().map(PathBuf::as_path).chain([Path::new(NOTE)]) {
                let target = folder.join(name);
                writing(&self.set, &target, fs::rename(self.path.join(name), &target))?;
            }
        } else {
            writing(&self.set, folder, fs::rename(&self.path, folder))?;
        }
        let parent = folder.parent().unwrap_or(folder);
        writing(&self.set, folder, fs::File::open(parent).and_then(|parent| parent.sync_all()))
    }

    fn names(&self) -> Result<Vec<PathBuf>, FetchError> {
        let entries = reading(&self.set, &self.path, fs::read_dir(&self.path))?;
        let names = entries.map(|entry| entry.map(|entry| PathBuf::from(entry.file_name())));
        reading(&self.set, &self.path, names.collect())
    }

    /// Flushes all files to disk before they are renamed. One call for the file system is far faster than one for each
    /// of a hundred thousand images; if the tool is missing, `san verify` still detects a torn file.
    fn flush(&self) {
        let _ = std::process::Command::new("sync").arg("-f").arg(&self.path).status();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        let _ = fs::remove_dir_all(&self.path);
    }
}
