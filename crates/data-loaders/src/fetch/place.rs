//! A scratch folder next to the set's, which becomes it in one step; the note in it by which it is known again; and the
//! lock that keeps other fetches of the same set away meanwhile.

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

/// What a fetched folder was made of.
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

/// Whether the folder was fetched whole, from the sources that the registry names today.
pub(super) fn was_fetched(distribution: Distribution<'_>, folder: &Path) -> bool {
    let note = fs::read(folder.join(NOTE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    note.is_some_and(|note: Note| note == Note::of(distribution))
}

/// The right to fetch into a folder, as long as this lives.
pub(super) struct Claim {
    path: PathBuf,
    _file: fs::File,
}

impl Claim {
    /// Locks a file next to the folder of the set.
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
        // Before the lock is given back; one that stays locks nothing.
        let _ = fs::remove_file(&self.path);
    }
}

/// A folder that is removed again unless it is published.
pub(super) struct Scratch {
    set: String,
    path: PathBuf,
}

impl Scratch {
    /// An empty one next to the folder of the set; what an interrupted fetch left is removed. The caller has the [`Claim`].
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

    /// Gives the folder its name. Where one of that name is there, what it lacks is moved into it; what it has already
    /// is in the way, and then nothing is moved.
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
            // The note comes last: without it the folder is not taken for whole.
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

    /// Writes all files to the disk before they get their names. One call for the file system is far faster than one
    /// for each of a hundred thousand images; where the tool is missing, `san verify` still tells a torn file.
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
