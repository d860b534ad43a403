//! Operations on a trained adapter: its file format, merging into plain weights, and peft's format.

pub mod file;
pub mod merge;
pub mod peft;
