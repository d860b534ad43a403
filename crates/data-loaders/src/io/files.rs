//! Files and paths that somebody else chose: only regular files are read, only up to a size, and only below the folder
//! of the set.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path};

/// The most bytes of an image file: one of the most pixels (`decode::MOST_PIXELS`), uncompressed, 16 bits each of four
/// channels.
pub(crate) const MOST_IMAGE_BYTES: u64 = 1 << 29;
/// The most bytes of a list or a container that is read whole; the largest known one (LLaVA's mixture) has 1 GB.
pub(crate) const MOST_LIST_BYTES: u64 = 1 << 32;

/// Opens a regular file of at most `most` bytes. A pipe would be waited for, and a device has no end.
///
/// # Errors
/// As the operating system has them, and for anything else than such a file.
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

/// The bytes of a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`].
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // It may have grown since, or claim no size as the files of /proc do.
    open(path, most)?.take(most + 1).read_to_end(&mut bytes)?;
    let length = bytes.len() as u64;
    if length > most { Err(too_large(length, most)) } else { Ok(bytes) }
}

/// The text of a regular file of at most [`MOST_LIST_BYTES`].
///
/// # Errors
/// As [`open`], and where it is not UTF-8.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let not_text = |_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8");
    String::from_utf8(read(path, MOST_LIST_BYTES)?).map_err(not_text)
}

fn too_large(length: u64, most: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("it has {length} bytes; at most {most} are read"))
}

/// Whether a path of a list leads nowhere but down.
pub(crate) fn stays_inside(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_) | Component::CurDir))
}
