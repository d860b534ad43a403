//! Files that are whole or not there.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes a file: scratch file beside it, fsync, rename, fsync of the folder.
///
/// # Errors
/// When the folder is read-only or the disk full; an older file is left as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    // What a process that was killed leaves behind tells what it was going to be.
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut scratch = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    scratch.write_all(bytes)?;
    scratch.as_file().sync_all()?;
    scratch.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}
