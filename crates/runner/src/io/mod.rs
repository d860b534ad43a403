//! Atomic files, and the file of predictions.

pub mod files;
pub mod predictions;
