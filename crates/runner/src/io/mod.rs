//! Files that are whole or not there.

pub mod files;
pub mod predictions;
