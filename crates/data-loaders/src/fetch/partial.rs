//! The part of a file that is here, `<file>.part`: locked while a fetch works on it, with a note of where it is from.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fetch::FetchError;
use crate::fetch::error::{reading, writing};
use crate::fetch::lock::lock;

/// What is known of a file that is loaded, in `<file>.origin`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Origin {
    /// The address, official or a mirror's.
    pub(super) url: String,
    /// A strong entity tag, or a date of modification.
    pub(super) validator: Option<String>,
    /// Bytes of the whole file.
    pub(super) total: Option<u64>,
    /// SHA-256 of the first download, where no checksum is published: later ones should be the same. It stays when the
    /// file is removed.
    pub(super) sha256: Option<String>,
}

/// Bytes of a download that are here, whole or in part.
pub(super) fn held(path: &Path) -> u64 {
    let size = |path: &Path| path.metadata().ok().map(|file| file.len());
    size(path).or_else(|| size(&with_ending(path, ".part"))).unwrap_or(0)
}

/// Where the note about a file lies.
pub(super) fn note_of(path: &Path) -> PathBuf {
    with_ending(path, ".origin")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Renames a whole file that has turned out wrong, so that the next fetch loads it again; its new name. What its note
/// says of it is forgotten.
pub(super) fn set_aside(set: &str, path: &Path) -> Result<PathBuf, FetchError> {
    let rejected = with_ending(path, ".rejected");
    writing(set, &rejected, fs::rename(path, &rejected))?;
    write_note(set, path, None)?;
    Ok(rejected)
}

/// A partial file that no other fetch works on.
pub(super) struct Partial<'a> {
    set: &'a str,
    /// What it will be called.
    target: &'a Path,
    pub(super) path: PathBuf,
    file: File,
    pub(super) origin: Origin,
}

impl<'a> Partial<'a> {
    /// Opens or makes it, and locks it.
    pub(super) fn take(set: &'a str, target: &'a Path) -> Result<Self, FetchError> {
        let path = with_ending(target, ".part");
        let Some(file) = writing(set, &path, lock(&path))? else {
            return Err(FetchError::Busy { set: set.to_owned(), path });
        };
        Ok(Self { set, target, file, origin: read_note(set, target)?, path })
    }

    /// Bytes that are here.
    pub(super) fn held(&self) -> Result<u64, FetchError> {
        Ok(reading(self.set, &self.path, self.file.metadata())?.len())
    }

    /// Prepares for the bytes from `start` on, of a file with that origin.
    pub(super) fn begin(&mut self, start: u64, origin: Origin) -> Result<(), FetchError> {
        // Bytes of another origin go before the note does: whatever ends the process here, they are not taken for its.
        let placed = self.file.set_len(start).and_then(|()| self.file.seek(SeekFrom::Start(start)));
        writing(self.set, &self.path, placed)?;
        self.origin = origin;
        write_note(self.set, self.target, Some(&self.origin))
    }

    /// Writes the next bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        writing(self.set, &self.path, self.file.write_all(bytes))
    }

    /// Forgets what is here.
    pub(super) fn clear(&mut self) -> Result<(), FetchError> {
        writing(self.set, &self.path, self.file.set_len(0))
    }

    /// Gives the file, once it is on the disk, its name, and leaves a note of its checksum where none is published.
    pub(super) fn publish(&self, sha256: Option<String>) -> Result<(), FetchError> {
        writing(self.set, &self.path, self.file.sync_all())?;
        writing(self.set, self.target, fs::rename(&self.path, self.target))?;
        let note = sha256.map(|sha256| Origin { sha256: Some(sha256), ..Origin::default() });
        write_note(self.set, self.target, note.as_ref())
    }

    /// Renames a file that is not the published one; its new name. The note keeps the checksum of an earlier one.
    pub(super) fn reject(&self) -> Result<PathBuf, FetchError> {
        let rejected = with_ending(self.target, ".rejected");
        writing(self.set, &rejected, fs::rename(&self.path, &rejected))?;
        let first = self.origin.sha256.clone();
        let note = first.map(|sha256| Origin { sha256: Some(sha256), ..Origin::default() });
        write_note(self.set, self.target, note.as_ref())?;
        Ok(rejected)
    }

    /// Removes the file where nothing was loaded.
    pub(super) fn leave(self) {
        // After a rename the path may be another fetch's; this one's file is not empty then.
        if self.held().is_ok_and(|held| held == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The note about a file, an empty one where there is none.
fn read_note(set: &str, path: &Path) -> Result<Origin, FetchError> {
    let path = note_of(path);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Origin::default()),
        bytes => reading(set, &path, bytes)?,
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        let reason = format!("not a note of a download ({error}); remove it, and the file is loaded again");
        FetchError::Mismatch { set: set.to_owned(), path, reason }
    })
}

/// Writes the note about a file whole or not at all; removes it where there is nothing to say.
fn write_note(set: &str, path: &Path, origin: Option<&Origin>) -> Result<(), FetchError> {
    let (path, new) = (note_of(path), with_ending(path, ".origin.new"));
    let written = match origin {
        Some(origin) => serde_json::to_vec(origin)
            .map_err(Into::into)
            .and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &path)),
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
    };
    writing(set, &path, written)
}
