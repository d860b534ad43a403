//! A lock file, held by one fetch at a time, in this or another process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Opens a file, creating it if needed, and locks it; `None` if another fetch holds the lock. The operating system
/// releases the lock when the file is closed, however the process ends.
pub(super) fn lock(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The previous holder may have renamed or removed the file between our opening and our locking it; then the
        // path is a different file or missing.
        let ours = file.metadata()?.ino();
        if fs::metadata(path).is_ok_and(|there| there.ino() == ours) {
            return Ok(Some(file));
        }
    }
}
