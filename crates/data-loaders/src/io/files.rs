//! Untrusted files and paths: only regular files are read, only up to a maximum size, and only inside the dataset's
//! folder.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path};

/// Maximum size of an image file in bytes: an image with the maximum number of pixels (`decode::MAX_PIXELS`),
/// uncompressed, four channels of 16 bits.
pub(crate) const MAX_IMAGE_BYTES: u64 = 1 << 29;
/// Maximum size in bytes of a list or container that is read whole; the largest known one (LLaVA's mixture) has 1 GB.
pub(crate) const MAX_LIST_BYTES: u64 = 1 << 32;

/// Opens a regular file of at most `most` bytes. A pipe would block, and a device has no end.
///
/// # Errors
/// Those of the operating system, and an error for anything other than such a file.
pub(crate) fn open(path: &Path, most: u64) -> io::Result<File> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > most {
        return Err(too_large(metadata.len(), most));
    }
    File::open(path)
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`].
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // It may have grown since, or report no size, as files in /proc do.
    open(path, most)?.take(most + 1).read_to_end(&mut bytes)?;
    let length = bytes.len() as u64;
    if length > most { Err(too_large(length, most)) } else { Ok(bytes) }
}

/// Reads the text of a regular file of at most [`MAX_LIST_BYTES`].
///
/// # Errors
/// As [`open`], and if it is not UTF-8.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let not_text = |_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8");
    String::from_utf8(read(path, MAX_LIST_BYTES)?).map_err(not_text)
}

fn too_large(length: u64, most: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("it has {length} bytes; at most {most} are supported"))
}

/// Whether a listed path stays within its folder.
pub(crate) fn stays_inside(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_) | Component::CurDir))
}
