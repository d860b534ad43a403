//! A published language model, from its folder or its GGUF file, in the type that it computes in.
//!
//! Tensors are read one by one and cast at once: at no time is there more than the model and one tensor
//! as the file has it. Matrices become the compute type, vectors (norms) stay f32.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use san_core::io::safetensors::TensorFile;
use san_core::{Error, Weights};
use tch::{Device, Kind, Tensor};

use crate::language::LanguageArchitecture;
use crate::language::llama;
use crate::weights::{config, gguf, shards};

/// Where weights go, and as what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Type of matrices: f32, or bf16 where the processor is good at it.
    pub kind: Kind,
    /// Where they are kept.
    pub device: Device,
}

impl Default for Target {
    /// f32 on the CPU.
    fn default() -> Self {
        Self { kind: Kind::Float, device: Device::Cpu }
    }
}

impl Target {
    /// A tensor as it is kept: a matrix in the type of matrices, a vector (of a norm, a bias) in f32.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn keep(self, tensor: &Tensor) -> Result<Tensor, Error> {
        let kind = if tensor.dim() > 1 { self.kind } else { Kind::Float };
        Ok(tensor.f_to_kind(kind)?.f_to_device(self.device)?)
    }
}

/// A language model as it was published.
#[derive(Debug)]
pub struct LanguageCheckpoint {
    /// Its configuration.
    pub config: llama::Config,
    /// Its weights by Hugging Face's names.
    pub weights: Weights,
    /// blake3 of the file, in hex; of several files, that of their checksums in the order of their names.
    pub checksum: String,
}

/// Tensors as they come, each cast and moved at once.
#[derive(Debug)]
pub(crate) struct Collected {
    target: Target,
    tensors: BTreeMap<String, Tensor>,
}

impl Collected {
    /// Nothing yet.
    pub(crate) fn new(target: Target) -> Self {
        Self { target, tensors: BTreeMap::new() }
    }

    /// Adds a tensor; whether there was one of that name already.
    pub(crate) fn add(&mut self, name: String, tensor: &Tensor) -> Result<bool, Error> {
        // Buffers that old versions of transformers saved; they follow from the configuration.
        if name.ends_with(".rotary_emb.inv_freq") {
            return Ok(false);
        }
        Ok(self.tensors.insert(name, self.target.keep(tensor)?).is_some())
    }

    /// The tensors as they came, for models of more parts than one.
    pub(super) fn into_tensors(self) -> BTreeMap<String, Tensor> {
        self.tensors
    }

    /// The weights of `config`, checked strictly; `place` is for messages.
    pub(crate) fn finish(mut self, config: &llama::Config, place: &Path) -> Result<Weights, Error> {
        if config.tie_word_embeddings {
            // Some checkpoints have the tied matrix twice.
            self.tensors.remove("lm_head.weight");
        }
        let weights = Weights::new(self.tensors);
        weights.check(&config.layout("llama"), &place.display().to_string())?;
        Ok(weights)
    }
}

/// Reads `path`: a GGUF file, or a folder with `config.json` and `model.safetensors` (or the files of
/// `model.safetensors.index.json`), or with one GGUF file.
///
/// # Errors
/// If a file is missing, cut short or not what it should be, the configuration cannot be built, or a
/// tensor is missing, unknown or of another shape.
pub fn language(path: &Path, target: Target) -> Result<LanguageCheckpoint, Error> {
    if path.is_dir() { folder(path, target) } else { gguf::read(path, target) }
}

/// As [`language`], from a safetensors file's bytes that are in memory already; `path` is for messages.
///
/// # Errors
/// As [`language`].
pub fn parse_language(
    bytes: &[u8],
    path: &Path,
    config: llama::Config,
    target: Target,
) -> Result<LanguageCheckpoint, Error> {
    let file = TensorFile::parse(bytes, path)?;
    let mut collected = Collected::new(target);
    for (name, tensor) in file.tensors {
        collected.add(name, &tensor)?;
    }
    let weights = collected.finish(&config, path)?;
    Ok(LanguageCheckpoint { config, weights, checksum: file.checksum })
}

fn folder(path: &Path, target: Target) -> Result<LanguageCheckpoint, Error> {
    let (single, index) = (path.join("model.safetensors"), path.join(shards::INDEX));
    if !single.exists() && !index.exists() {
        return without_safetensors(path, target);
    }
    let config = config::read(&path.join("config.json"))?;
    let mut collected = Collected::new(target);
    let (place, checksum) = if single.exists() {
        let checksum = shards::read(&single, &mut collected)?;
        (single, checksum)
    } else {
        let checksum = shards::read_all(&index, &mut collected)?;
        (index, checksum)
    };
    let weights = collected.finish(&config, &place)?;
    Ok(LanguageCheckpoint { config, weights, checksum })
}

/// The one GGUF file of a folder; a folder of pickles is told so.
fn without_safetensors(path: &Path, target: Target) -> Result<LanguageCheckpoint, Error> {
    let failed = |source| Error::File { action: "read", path: path.into(), source };
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let files: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(failed)?;
    let ending = |file: &&PathBuf, ending: &str| file.extension().is_some_and(|found| found == ending);
    let ggufs: Vec<&PathBuf> = files.iter().filter(|file| ending(file, "gguf")).collect();
    if let [file] = ggufs[..] {
        return gguf::read(file, target);
    }
    if let Some(pickle) = files.iter().find(|file| ending(file, "bin") || ending(file, "pth")) {
        return Err(Error::Pickle { path: pickle.clone() });
    }
    let place = format!("{0}/model.safetensors, {0}/{1} and one .gguf file", path.display(), shards::INDEX);
    let backbone = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(Error::MissingWeights { backbone, place })
}

pub(crate) use config::check as check_config;
