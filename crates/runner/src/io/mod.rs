//! Atomic files, the file of predictions, and copies to a GPU.

pub mod files;
pub mod predictions;
pub mod transfer;
