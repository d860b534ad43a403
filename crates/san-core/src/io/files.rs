//! Atomic file writes, and reads that check file type and size.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::Error;

/// Opens a regular file of at most `max_bytes` bytes; reading from a pipe could block, and a device may be endless.
///
/// # Errors
/// Errors of the operating system, and any other file type or a larger size.
pub fn open(path: &Path, max_bytes: u64) -> Result<File, Error> {
    let open = || {
        let metadata = std::fs::metadata(path)?;
        match metadata.len() {
            _ if metadata.is_dir() => Err(ErrorKind::IsADirectory.into()),
            _ if !metadata.is_file() => Err(io::Error::other("it is not a regular file")),
            length if length > max_bytes => Err(too_large(length, max_bytes)),
            _ => File::open(path),
        }
    };
    open().map_err(|source| Error::File { action: "read", path: path.into(), source })
}

/// The bytes of a regular file of at most `max_bytes` bytes.
///
/// # Errors
/// Same as [`open`].
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, Error> {
    let error = |source| Error::File { action: "read", path: path.into(), source };
    let mut bytes = Vec::new();
    // It may have grown since, or report no size, like files in /proc.
    open(path, max_bytes)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(error)?;
    let length = bytes.len() as u64;
    if length > max_bytes { Err(error(too_large(length, max_bytes))) } else { Ok(bytes) }
}

fn too_large(length: u64, max_bytes: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("it has {length} bytes; the limit is {max_bytes}"))
}

/// Writes a file atomically: temporary file in the same folder, fsync, rename, fsync of the folder.
///
/// # Errors
/// If the folder is read-only or the disk is full; an existing file is left unchanged.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_parts_atomically(path, |file| file.write_all(bytes))
}

/// The same for a file that is written in parts.
///
/// # Errors
/// As for [`write_atomically`]; errors of `write`.
pub fn write_parts_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    // The prefix identifies temporary files left by a killed process.
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut temporary = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    write(&mut temporary)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}
