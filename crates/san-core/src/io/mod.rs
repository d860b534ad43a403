//! File I/O: safetensors and atomic writes.

pub mod files;
pub mod safetensors;
