//! Reads checkpoints strictly against a model spec.
//!
//! Image models are small and read into memory; [`language`] reads tensor by tensor.

mod config;
mod gguf;
mod hashing_reader;
mod language;
mod llava;
mod shards;

use std::collections::BTreeSet;
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
use crate::vision::timm::{self, TimmModel};
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
    /// An image model of timm.
    Vision(TimmModel),
    /// A language model.
    Language(Arc<dyn LanguageArchitecture>),
    /// A language model with a vision tower.
    Llava(vlm::llava::Architecture),
}

/// The architecture of a model in its folder: an image model of timm, or a language model, with or without a vision
/// tower; no tensor is read.
///
/// # Errors
/// If there is no configuration, or it is malformed or not supported.
pub fn architecture(folder: &Path) -> Result<Published, Error> {
    let config = folder.join("config.json");
    if !config.exists() {
        return Ok(Published::Language(language::architecture(folder)?));
    }
    let document = config::document(&config)?;
    if document.get("architecture").is_some() {
        let unsupported = |reason| Error::Configuration { path: config, reason };
        return Ok(Published::Vision(timm::configured(&document).map_err(unsupported)?));
    }
    Ok(if document.get("model_type") == Some(&"llava".into()) {
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
    let known: BTreeSet<String> =
        model_spec.tensors.iter().map(|tensor| tensor.name.clone()).chain(head_tensors(model_spec)).collect();
    // Heads of other kinds, for example that of a distilled DeiT, or a layer before the classes.
    let is_other_head = |name: &str| {
        name.starts_with("head") && !known.contains(name) && !["head.weight", "head.bias"].contains(&name)
    };
    let file = TensorFile::read_some(path, &|name| !architecture.is_obsolete(name) && !is_other_head(name))?;
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

fn head_tensors(model_spec: &ModelSpec) -> impl Iterator<Item = String> {
    model_spec.head.iter().flat_map(HeadSpec::tensors)
}

fn from_file(
    file: TensorFile,
    path: &Path,
    architecture: &dyn Architecture,
    model_spec: &ModelSpec,
) -> Result<Checkpoint, Error> {
    let mut weights = architecture.fit(Weights::new(file.tensors))?;
    let head = head_tensors(model_spec).filter_map(|name| Some((weights.remove(&name)?, name)));
    let head = Weights::new(head.map(|(tensor, name)| (name, tensor)).collect());
    weights.check(model_spec, &path.display().to_string())?;
    Ok(Checkpoint { weights, head, checksum: file.checksum })
}
