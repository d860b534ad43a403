//! A scratch folder next to the dataset's folder, renamed to it in one step; the note inside that identifies it later;
//! and the lock that keeps out other fetches of the same dataset.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fetch::error::{reading, writing};
use crate::fetch::lock::lock;
use crate::fetch::{Fault, FetchError};
use crate::registry::{Distribution, Download, HubRepository, SetFolder};

/// The sources of a fetched folder.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    set: String,
    sources: Vec<Download>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repository: Option<HubRepository>,
    /// The files and folders, if they are among those of other distributions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<PathBuf>,
}

impl Note {
    fn of(distribution: Distribution<'_>, names: Vec<PathBuf>) -> Self {
        let Distribution { name, sources, repository, .. } = distribution;
        Self { set: name.to_owned(), sources: sources.to_vec(), repository: repository.cloned(), names }
    }
}

/// Whether the files are among those of other distributions.
fn is_shared(distribution: Distribution<'_>) -> bool {
    distribution.folder == "."
}

/// The folder that the files go into.
pub(super) fn folder(distribution: Distribution<'_>, root: &Path) -> PathBuf {
    if is_shared(distribution) { root.to_owned() } else { root.join(distribution.folder) }
}

/// Name of the note.
fn note_name(distribution: Distribution<'_>) -> String {
    if is_shared(distribution) {
        format!(".san-fetched-{}.json", distribution.name)
    } else {
        ".san-fetched.json".to_owned()
    }
}

/// Path of the scratch folder.
fn scratch_path(distribution: Distribution<'_>, root: &Path) -> PathBuf {
    let name = if is_shared(distribution) { distribution.name } else { distribution.folder };
    root.join(format!(".fetching-{name}"))
}

/// Whether the folder was fetched completely, from the sources in the current registry.
pub(super) fn was_fetched(distribution: Distribution<'_>, folder: &Path) -> bool {
    let note = fs::read(folder.join(note_name(distribution)));
    let note = note.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    note.is_some_and(|note: Note| {
        let complete = note.names.iter().all(|name| folder.join(name).exists());
        complete && note == Note::of(distribution, note.names.clone())
    })
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
        let path = scratch_path(distribution, root).with_added_extension("lock");
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
    /// The folder to remove.
    outer: PathBuf,
    /// The folder whose entries are published.
    path: PathBuf,
}

impl Scratch {
    /// Creates an empty folder next to the dataset's folder, removing what an interrupted fetch left. The caller holds
    /// the [`Claim`].
    pub(super) fn create(distribution: Distribution<'_>, root: &Path) -> Result<Self, FetchError> {
        let set = distribution.name.to_owned();
        let path = scratch_path(distribution, root);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return writing(&set, &path, Err(error)),
            _ => {}
        }
        writing(&set, &path, fs::create_dir_all(&path))?;
        Ok(Self { set, outer: path.clone(), path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folders of datasets, unpacked from an archive of several, the names that they are to have, and leaves
    /// out everything else.
    ///
    /// # Errors
    /// If the folder of a dataset is missing.
    pub(super) fn arrange(&mut self, sets: &[SetFolder]) -> Result<(), Fault> {
        let fault = |reason: String| Fault { file: ".".into(), reason };
        let arranged = self.outer.join(".sets");
        let has = |base: &Path| sets.iter().flat_map(|set| &set.names).any(|name| base.join(name).is_dir());
        let below = fs::read_dir(&self.outer).into_iter().flatten().flatten().map(|entry| entry.path());
        let base = std::iter::once(self.outer.clone()).chain(below).find(|base| has(base));
        let base = base.ok_or_else(|| fault("it has none of the folders of the data sets".into()))?;
        let renamed = fs::create_dir(&arranged);
        renamed.map_err(|error| fault(error.to_string()))?;
        for SetFolder { set, names, folder } in sets {
            let found = names.iter().map(|name| base.join(name)).find(|path| path.is_dir());
            let found = found.ok_or_else(|| {
                fault(format!("it has no folder of the data set {set}, named {}", names.join(" or ")))
            })?;
            fs::rename(found, arranged.join(folder)).map_err(|error| fault(error.to_string()))?;
        }
        self.path = arranged;
        Ok(())
    }

    /// Renames the folder. If the target exists, the missing entries are moved into it; if any entry exists already,
    /// that is an error and nothing is moved.
    pub(super) fn publish(self, distribution: Distribution<'_>, folder: &Path) -> Result<(), FetchError> {
        let names = self.names()?;
        let noted = if is_shared(distribution) { names.clone() } else { Vec::new() };
        let note = Note::of(distribution, noted);
        let text = writing(&self.set, &self.path, serde_json::to_vec_pretty(&note).map_err(Into::into))?;
        let note_name = note_name(distribution);
        let note = self.path.join(&note_name);
        if let Some(name) = names.iter().find(|name| folder.join(name).exists()) {
            return Err(FetchError::InTheWay { set: self.set.clone(), path: folder.join(name) });
        }
        writing(&self.set, &note, fs::write(&note, text))?;
        self.flush();
        if folder.is_dir() {
            // The note is moved last: without it the folder does not count as complete.
            for name in names.iter().map(PathBuf::as_path).chain([Path::new(&note_name)]) {
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
        let _ = fs::remove_dir_all(&self.outer);
    }
}
