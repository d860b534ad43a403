//! Reads checkpoints strictly against a model spec.
//!
//! Image models are small and read into memory; [`language`] reads tensor by tensor.

mod config;
mod gguf;
mod hashing_reader;
mod language;
mod llava;
mod shards;

use std::path::Path;
use std::sync::Arc;

use san_core::io::safetensors::TensorFile;
use san_core::spec::model::HeadSpec;
use san_core::{ModelSpec, Weights};

pub use config::generation_end_tokens;
pub(crate) use hashing_reader::HashingReader;
pub(crate) use language::Collected;
pub use language::{LanguageCheckpoint, Target, language, parse_language};
pub use llava::{LlavaCheckpoint, llava};
pub use shards::{INDEX, inspect};

use crate::language::LanguageArchitecture;
use crate::{Architecture, Error, vlm};

/// Frozen weights and the checksum of their file.
#[derive(Debug)]
pub struct Checkpoint {
    /// The weights, without head, in f32 on the CPU.
    pub weights: Weights,
    /// The head, as far as the file has one.
    pub head: Weights,
    /// blake3 of the file, hex.
    pub checksum: String,
}

/// The architecture of a published model, by its folder.
#[derive(Debug)]
pub enum Published {
    /// A language model.
    Language(Arc<dyn LanguageArchitecture>),
    /// A language model with a vision tower.
    Llava(vlm::llava::Architecture),
}

/// The architecture of a language model, with or without a vision tower, in its folder; no tensor is read.
///
/// # Errors
/// If there is no configuration, or it is malformed or not supported.
pub fn architecture(folder: &Path) -> Result<Published, Error> {
    let config = folder.join("config.json");
    let is_llava = config.exists() && config::document(&config)?.get("model_type") == Some(&"llava".into());
    Ok(if is_llava {
        Published::Llava(llava::architecture(folder)?)
    } else {
        Published::Language(language::architecture(folder)?)
    })
}

/// Reads a published checkpoint of `architecture`. Its head is set apart, as every task trains its own.
///
/// # Errors
/// If the file cannot be read, is not a safetensors file, or a tensor is missing, unexpected or of the wrong shape.
pub fn read(
    path: &Path,
    architecture: &dyn Architecture,
    model_spec: &ModelSpec,
) -> Result<Checkpoint, Error> {
    let file = TensorFile::read_some(path, &|name| !architecture.is_obsolete(name))?;
    from_file(file, path, architecture, model_spec)
}

/// Same as [`read`], from bytes already in memory; `path` is used in messages.
///
/// # Errors
/// Same as [`read`].
pub fn parse(
    bytes: &[u8],
    path: &Path,
    architecture: &dyn Architecture,
    model_spec: &ModelSpec,
) -> Result<Checkpoint, Error> {
    from_file(TensorFile::parse(bytes, path)?, path, architecture, model_spec)
}

fn from_file(
    file: TensorFile,
    path: &Path,
    architecture: &dyn Architecture,
    model_spec: &ModelSpec,
) -> Result<Checkpoint, Error> {
    let mut weights = architecture.fit(Weights::new(file.tensors))?;
    let head = model_spec.head.iter().flat_map(HeadSpec::tensors);
    let head = head.filter_map(|name| Some((weights.remove(&name)?, name)));
    let head = Weights::new(head.map(|(tensor, name)| (name, tensor)).collect());
    weights.check(model_spec, &path.display().to_string())?;
    Ok(Checkpoint { weights, head, checksum: file.checksum })
}
