//! Reads untrusted files: regular files only, bounded in size, inside their folder, and hashed.

pub(crate) mod contained;
pub(crate) mod file_hashes;
pub(crate) mod files;
