//! The partial download `<file>.part`: locked while a fetch works on it, with a note of its origin.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fetch::FetchError;
use crate::fetch::error::{reading, writing};
use crate::fetch::lock::lock;

/// Metadata of a downloaded file, in `<file>.origin`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Origin {
    /// The URL, official or a mirror's.
    pub(super) url: String,
    /// A strong entity tag, or a modification date.
    pub(super) validator: Option<String>,
    /// Size of the whole file in bytes.
    pub(super) total: Option<u64>,
    /// SHA-256 of the first download if no checksum is published; later downloads must match it. It is kept when the
    /// file is removed.
    pub(super) sha256: Option<String>,
}

/// Bytes of a complete or partial download that are on disk.
pub(super) fn bytes_on_disk(path: &Path) -> u64 {
    let size = |path: &Path| path.metadata().ok().map(|file| file.len());
    size(path).or_else(|| size(&with_ending(path, ".part"))).unwrap_or(0)
}

/// Path of the note for a file.
pub(super) fn note_of(path: &Path) -> PathBuf {
    with_ending(path, ".origin")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Renames a complete but invalid file, so that the next fetch downloads it again; returns the new name. Its note is
/// discarded.
pub(super) fn set_aside(set: &str, path: &Path) -> Result<PathBuf, FetchError> {
    let rejected = with_ending(path, ".rejected");
    writing(set, &rejected, fs::rename(path, &rejected))?;
    write_note(set, path, None)?;
    Ok(rejected)
}

/// A partial file, locked against other fetches.
pub(super) struct Partial<'a> {
    set: &'a str,
    /// Its final path.
    target: &'a Path,
    pub(super) path: PathBuf,
    file: File,
    pub(super) origin: Origin,
}

impl<'a> Partial<'a> {
    /// Opens or creates the file and locks it.
    pub(super) fn take(set: &'a str, target: &'a Path) -> Result<Self, FetchError> {
        let path = with_ending(target, ".part");
        let Some(file) = writing(set, &path, lock(&path))? else {
            return Err(FetchError::Busy { set: set.to_owned(), path });
        };
        Ok(Self { set, target, file, origin: read_note(set, target)?, path })
    }

    /// Bytes on disk.
    pub(super) fn bytes_on_disk(&self) -> Result<u64, FetchError> {
        Ok(reading(self.set, &self.path, self.file.metadata())?.len())
    }

    /// Prepares to write the bytes from `start`, for a file with this origin.
    pub(super) fn begin(&mut self, start: u64, origin: Origin) -> Result<(), FetchError> {
        // Bytes of another origin are removed before the note is written: if the process ends here, they are not
        // mistaken for the new origin's.
        let placed = self.file.set_len(start).and_then(|()| self.file.seek(SeekFrom::Start(start)));
        writing(self.set, &self.path, placed)?;
        self.origin = origin;
        write_note(self.set, self.target, Some(&self.origin))
    }

    /// Writes the next bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        writing(self.set, &self.path, self.file.write_all(bytes))
    }

    /// Discards the contents.
    pub(super) fn clear(&mut self) -> Result<(), FetchError> {
        writing(self.set, &self.path, self.file.set_len(0))
    }

    /// Syncs the file to disk and renames it; records its checksum in the note if none is published.
    pub(super) fn publish(&self, sha256: Option<String>) -> Result<(), FetchError> {
        writing(self.set, &self.path, self.file.sync_all())?;
        writing(self.set, self.target, fs::rename(&self.path, self.target))?;
        let note = sha256.map(|sha256| Origin { sha256: Some(sha256), ..Origin::default() });
        write_note(self.set, self.target, note.as_ref())
    }

    /// Renames a file, partial or complete, that is not the published one; returns the new name. The note keeps an
    /// earlier checksum.
    pub(super) fn reject(&self, path: &Path) -> Result<PathBuf, FetchError> {
        let rejected = with_ending(self.target, ".rejected");
        writing(self.set, &rejected, fs::rename(path, &rejected))?;
        let first = self.origin.sha256.clone();
        let note = first.map(|sha256| Origin { sha256: Some(sha256), ..Origin::default() });
        write_note(self.set, self.target, note.as_ref())?;
        Ok(rejected)
    }

    /// Removes the file if nothing was downloaded.
    pub(super) fn leave(self) {
        // After a rename the path may belong to another fetch; in that case this file is not empty.
        if self.bytes_on_disk().is_ok_and(|bytes_on_disk| bytes_on_disk == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The note for a file; the default if there is none.
fn read_note(set: &str, path: &Path) -> Result<Origin, FetchError> {
    let path = note_of(path);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Origin::default()),
        bytes => reading(set, &path, bytes)?,
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        let reason =
            format!("it is not a valid download note ({error}); remove it to download the file again");
        FetchError::Mismatch { set: set.to_owned(), path, reason }
    })
}

/// Writes the note for a file atomically; removes it if there is nothing to record.
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
