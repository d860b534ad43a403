//! Files that are whole or not there when they are written, and of a known kind and size when they are read.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::Error;

/// Opens a regular file of at most `most` bytes. A pipe would be waited for, and a device has no end.
///
/// # Errors
/// As the operating system has them, and for anything else than such a file.
pub fn open(path: &Path, most: u64) -> Result<File, Error> {
    let open = || {
        let metadata = std::fs::metadata(path)?;
        match metadata.len() {
            _ if metadata.is_dir() => Err(ErrorKind::IsADirectory.into()),
            _ if !metadata.is_file() => Err(io::Error::other("it is not a regular file")),
            length if length > most => Err(too_large(length, most)),
            _ => File::open(path),
        }
    };
    open().map_err(|source| Error::File { action: "read", path: path.into(), source })
}

/// The bytes of a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::File { action: "read", path: path.into(), source };
    let mut bytes = Vec::new();
    // It may have grown since, or claim no size as the files of /proc do.
    open(path, most)?.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    let length = bytes.len() as u64;
    if length > most { Err(failed(too_large(length, most))) } else { Ok(bytes) }
}

fn too_large(length: u64, most: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("it has {length} bytes; at most {most} are read"))
}

/// Writes a file: scratch file beside it, fsync, rename, fsync of the folder.
///
/// # Errors
/// If the folder is read-only or the disk full; an older file is left as it was.
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
