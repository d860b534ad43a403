//! Files: safetensors, and writing whole or not at all.

pub mod files;
pub mod safetensors;
