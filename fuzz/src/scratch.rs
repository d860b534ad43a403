//! A folder of this process for readers of files, on an in-memory file system where there is one.

use std::path::{Path, PathBuf};

/// The folder; created empty on the first call.
pub(crate) fn folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = base.join(format!("fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}

/// Writes a file in it.
pub(crate) fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder can be made");
    std::fs::write(&path, bytes).expect("a file can be written");
    path
}
