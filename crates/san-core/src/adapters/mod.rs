//! What is done with a trained adapter: its file, merging into plain weights, and peft's format.

pub mod file;
pub mod merge;
pub mod peft;
