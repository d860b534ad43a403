//! A vision backbone in memory: bundled, with random weights, or from its folder under `SAN_WEIGHTS`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use backbones::Architecture;
use backbones::registry::{self, Origin};
use backbones::weights::{self, Checkpoint};
use san_core::{ModelSpec, Weights};
use tch::Device;

use crate::models::published::conversion;
use crate::models::{NamedArchitecture, place};

/// The seed of a backbone with random weights.
pub(crate) const RANDOM_WEIGHTS_SEED: u64 = 0;
/// The suffix that selects random weights.
pub(crate) const RANDOM: &str = "@random";

/// A backbone with its frozen weights.
#[derive(Debug)]
pub struct LoadedBackbone {
    /// The configuration at the protocol's image size.
    pub architecture: Box<dyn Architecture>,
    /// Tensors, sites and norms.
    pub model_spec: ModelSpec,
    /// The frozen weights, on the device.
    pub weights: Weights,
    /// The head of its file, if that has one; on the CPU.
    pub head: Weights,
    /// blake3 of the file, or `random:<seed>`.
    pub checksum: String,
}

impl LoadedBackbone {
    /// The backbone `name` for images of `image_size` pixels; its file is under `root`.
    ///
    /// # Errors
    /// When it is unknown, or its weights are missing or do not fit.
    pub fn load(name: &str, image_size: u32, root: Option<&Path>, device: Device) -> Result<Self> {
        let published = name.strip_suffix(RANDOM).unwrap_or(name);
        let NamedArchitecture::Vision(architecture) = NamedArchitecture::find(published, root)? else {
            bail!("`{published}` is a language model; image classification needs an image model")
        };
        let architecture = architecture.at_image_size(i64::from(image_size))?;
        let model_spec = architecture.model_spec(name);
        let checkpoint = if name.ends_with(RANDOM) {
            Checkpoint {
                weights: Weights::random(&model_spec, RANDOM_WEIGHTS_SEED)?,
                head: Weights::default(),
                checksum: format!("random:{RANDOM_WEIGHTS_SEED}"),
            }
        } else {
            match registry::find(published).map(|entry| entry.origin) {
                Ok(Origin::Bundled(bytes)) => {
                    let path = PathBuf::from(format!("assets/{published}.safetensors"));
                    weights::parse(bytes, &path, &*architecture, &model_spec)?
                }
                _ => weights::read(&weights_file(published, root)?, &*architecture, &model_spec)?,
            }
        };
        let weights = checkpoint.weights.to_device(device).context("moving the weights to the device")?;
        let Checkpoint { head, checksum, .. } = checkpoint;
        Ok(Self { architecture, model_spec, weights, head, checksum })
    }
}

fn weights_file(name: &str, root: Option<&Path>) -> Result<PathBuf, backbones::Error> {
    let folder = place::of_model(name, root)?;
    let file = folder.join("model.safetensors");
    if file.is_file() {
        return Ok(file);
    }
    let place = match conversion(&folder) {
        Some(command) => format!("{}, which `{command}` makes of its pickle", file.display()),
        None => file.display().to_string(),
    };
    Err(backbones::Error::MissingWeights { backbone: name.into(), place })
}
