//! Reading files that others made: regular, bounded, inside their folder, and hashed.

pub(crate) mod contained;
pub(crate) mod file_hashes;
pub(crate) mod files;
