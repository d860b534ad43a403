//! A published language model from its folder or GGUF file, in its compute dtype.
//!
//! Tensors are read one by one and cast immediately, so memory holds at most the model and one tensor in the
//! file's dtype. Matrices are cast to the compute dtype; vectors (norms) stay f32.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use san_core::Weights;
use san_core::io::safetensors::TensorFile;
use tch::{Device, Kind, Tensor};

use crate::Error;
use crate::language::{LanguageArchitecture, drop_tied_output};
use crate::weights::{config, gguf, shards};

/// Device and dtype of the loaded weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Dtype of matrices: f32, or bf16 where the hardware supports it well.
    pub kind: Kind,
    /// The device.
    pub device: Device,
}

impl Default for Target {
    /// f32 on the CPU.
    fn default() -> Self {
        Self { kind: Kind::Float, device: Device::Cpu }
    }
}

impl Target {
    /// Converts a tensor for storage: matrices to the chosen dtype, vectors (norms, biases) to f32: they are small, and
    /// may be trained.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn keep(self, tensor: &Tensor) -> Result<Tensor, Error> {
        let kind = if tensor.dim() > 1 { self.kind } else { Kind::Float };
        Ok(tensor.f_to_kind(kind)?.f_to_device(self.device)?)
    }
}

/// A published language model.
#[derive(Debug)]
pub struct LanguageCheckpoint {
    /// Its architecture.
    pub architecture: Arc<dyn LanguageArchitecture>,
    /// Its weights under Hugging Face's names.
    pub weights: Weights,
    /// blake3 of the file, hex; for several files, of their checksums in file name order.
    pub checksum: String,
}

/// Tensors collected while reading, each cast and moved immediately.
#[derive(Debug)]
pub(crate) struct Collected {
    target: Target,
    tensors: BTreeMap<String, Tensor>,
}

impl Collected {
    /// An empty collection.
    pub(crate) fn new(target: Target) -> Self {
        Self { target, tensors: BTreeMap::new() }
    }

    /// Adds a tensor; returns whether the name already existed.
    pub(crate) fn add(&mut self, name: String, tensor: &Tensor) -> Result<bool, Error> {
        // Buffers saved by old versions of transformers; they follow from the configuration.
        if name.ends_with(".rotary_emb.inv_freq") {
            return Ok(false);
        }
        Ok(self.tensors.insert(name, self.target.keep(tensor)?).is_some())
    }

    /// The collected tensors, for models with several parts.
    pub(super) fn into_tensors(self) -> BTreeMap<String, Tensor> {
        self.tensors
    }

    /// The weights of a model, checked strictly; `place` is used in messages.
    pub(crate) fn finish(
        mut self,
        architecture: &dyn LanguageArchitecture,
        place: &Path,
    ) -> Result<Weights, Error> {
        let model_spec = architecture.model_spec("the model");
        drop_tied_output(&model_spec, &mut self.tensors);
        let weights = Weights::new(self.tensors);
        weights.check(&model_spec, &place.display().to_string())?;
        Ok(weights)
    }
}

/// Reads `path`: a GGUF file, or a folder with `config.json` and `model.safetensors` (or the shards of
/// `model.safetensors.index.json`), or with a single GGUF file.
///
/// # Errors
/// If a file is missing, truncated or malformed, the configuration is not supported, or a tensor is missing,
/// unknown or of the wrong shape.
pub fn language(path: &Path, target: Target) -> Result<LanguageCheckpoint, Error> {
    if path.is_dir() { folder(path, target) } else { gguf::read(path, target) }
}

/// Same as [`language`], from a safetensors file already in memory; `path` is used in messages.
///
/// # Errors
/// Same as [`language`].
pub fn parse_language(
    bytes: &[u8],
    path: &Path,
    architecture: Arc<dyn LanguageArchitecture>,
    target: Target,
) -> Result<LanguageCheckpoint, Error> {
    let file = TensorFile::parse(bytes, path)?;
    let mut collected = Collected::new(target);
    for (name, tensor) in file.tensors {
        collected.add(name, &tensor)?;
    }
    let weights = collected.finish(&*architecture, path)?;
    Ok(LanguageCheckpoint { architecture, weights, checksum: file.checksum })
}

fn folder(path: &Path, target: Target) -> Result<LanguageCheckpoint, Error> {
    let (single, index) = (path.join("model.safetensors"), path.join(shards::INDEX));
    if !single.exists() && !index.exists() {
        return gguf::read(&only_gguf(path)?, target);
    }
    let architecture = config::read(&path.join("config.json"))?;
    let mut collected = Collected::new(target);
    let (place, checksum) = if single.exists() {
        let checksum = shards::read(&single, &mut collected)?;
        (single, checksum)
    } else {
        let checksum = shards::read_all(&index, &mut collected)?;
        (index, checksum)
    };
    let weights = collected.finish(&*architecture, &place)?;
    Ok(LanguageCheckpoint { architecture, weights, checksum })
}

/// The architecture of a model in a folder, by its `config.json` or GGUF file; no tensor is read.
pub(super) fn architecture(path: &Path) -> Result<Arc<dyn LanguageArchitecture>, Error> {
    let config = path.join("config.json");
    if config.exists() { config::read(&config) } else { gguf::architecture(&only_gguf(path)?) }
}

/// The single GGUF file of a folder without safetensors files; a folder of pickles gives a specific error.
fn only_gguf(path: &Path) -> Result<PathBuf, Error> {
    let failed = |source| san_core::Error::File { action: "read", path: path.into(), source };
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let files: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(failed)?;
    let ending = |file: &&PathBuf, ending: &str| file.extension().is_some_and(|found| found == ending);
    let ggufs: Vec<&PathBuf> = files.iter().filter(|file| ending(file, "gguf")).collect();
    if let [file] = ggufs[..] {
        return Ok((*file).clone());
    }
    if let Some(pickle) = files.iter().find(|file| ending(file, "bin") || ending(file, "pth")) {
        return Err(san_core::Error::Pickle { path: pickle.clone() }.into());
    }
    let place =
        format!("{0}/model.safetensors, {0}/{1} and a single .gguf file", path.display(), shards::INDEX);
    let backbone = path.display().to_string();
    Err(Error::MissingWeights { backbone, place })
}
