//! Files that are written completely or not at all, and folders that appear in one step.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::RunError;

/// Adds the path to a write error.
pub fn writing<T>(path: &Path, result: std::io::Result<T>) -> Result<T, RunError> {
    result.map_err(|source| RunError::Write { path: path.into(), source })
}

/// Creates a folder with its parents.
///
/// # Errors
/// When the parent is read-only or the disk full.
pub fn create_folder(path: &Path) -> Result<(), RunError> {
    writing(path, std::fs::create_dir_all(path))
}

/// Writes JSON atomically: temporary file, fsync, rename, fsync of the folder.
///
/// # Errors
/// When the folder is read-only or the disk full; an existing file is left as it was.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RunError> {
    let mut text = writing(path, serde_json::to_vec_pretty(value).map_err(Into::into))?;
    text.push(b'\n');
    write_atomically(path, &text)
}

/// Writes a file completely or not at all.
///
/// # Errors
/// When the folder is read-only or the disk full; an existing file is left as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    writing(path, san_core::io::files::write_atomically(path, bytes))
}

/// Renames a finished scratch folder to its final name. Anything with that name is removed first: the caller has
/// checked that it is not a finished run, and holds the lock on the name.
///
/// # Errors
/// When the folder cannot be renamed.
pub fn publish_folder(scratch: &Path, target: &Path) -> Result<(), RunError> {
    let rename = || {
        File::open(scratch)?.sync_all()?;
        match std::fs::symlink_metadata(target) {
            Ok(there) if there.is_dir() => std::fs::remove_dir_all(target)?,
            Ok(_) => std::fs::remove_file(target)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        std::fs::rename(scratch, target)?;
        File::open(target.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    writing(target, rename())
}

/// The contents of a folder; empty if it does not exist.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The last component of a path.
pub fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
