//! Files that are whole or not there, and folders that appear in one step.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::RunError;

/// Names the path in an error of writing.
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

/// Writes JSON: scratch file, fsync, rename, fsync of the folder.
///
/// # Errors
/// When the folder is read-only or the disk full; an older file is left as it was.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RunError> {
    let mut text = writing(path, serde_json::to_vec_pretty(value).map_err(Into::into))?;
    text.push(b'\n');
    write_atomically(path, &text)
}

/// Writes a file whole or not at all.
///
/// # Errors
/// When the folder is read-only or the disk full; an older file is left as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    writing(path, san_core::io::files::write_atomically(path, bytes))
}

/// Gives a finished scratch folder its name. Whatever has the name is removed first: the caller has found that it is
/// not a finished run, and holds the lock of its name.
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

/// What lies in a folder; nothing where there is none.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The last part of a path.
pub fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
