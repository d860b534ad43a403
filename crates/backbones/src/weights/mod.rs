//! Checkpoints read strictly against a layout.
//!
//! Those of image models are small and read whole; [`language`] reads tensor by tensor.

mod config;
mod gguf;
mod language;
mod llava;
mod pass;
mod shards;

use std::path::Path;

use san_core::io::safetensors::TensorFile;
use san_core::spec::model::HeadSpec;
use san_core::{Error, Layout, Weights};

pub(crate) use language::{Collected, check_config};
pub use language::{LanguageCheckpoint, Target, language, parse_language};
pub use llava::{LlavaCheckpoint, llava};
pub(crate) use pass::Pass;
pub use shards::{INDEX, inspect};

use crate::Architecture;

/// Frozen weights and the checksum of the file that they came from.
#[derive(Debug)]
pub struct Checkpoint {
    /// The weights, without head, in f32 on the CPU.
    pub weights: Weights,
    /// blake3 of the file, in hex.
    pub checksum: String,
}

/// Reads a published checkpoint of `architecture`; a head in it is left out, for every task trains its
/// own.
///
/// # Errors
/// If the file cannot be read, is no safetensors file, or has a tensor too few, too many, or of
/// another shape.
pub fn read(path: &Path, architecture: &dyn Architecture, layout: &Layout) -> Result<Checkpoint, Error> {
    from_file(TensorFile::read(path)?, path, architecture, layout)
}

/// As [`read`], from bytes that are in memory already; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(
    bytes: &[u8],
    path: &Path,
    architecture: &dyn Architecture,
    layout: &Layout,
) -> Result<Checkpoint, Error> {
    from_file(TensorFile::parse(bytes, path)?, path, architecture, layout)
}

fn from_file(
    file: TensorFile,
    path: &Path,
    architecture: &dyn Architecture,
    layout: &Layout,
) -> Result<Checkpoint, Error> {
    let mut weights = Weights::new(file.tensors);
    for name in layout.head.iter().flat_map(HeadSpec::tensors) {
        weights.remove(&name);
    }
    let weights = architecture.fit(weights)?;
    weights.check(layout, &path.display().to_string())?;
    Ok(Checkpoint { weights, checksum: file.checksum })
}
