//! Pre-trains a bundled backbone on synthetic images, on synthetic text, or on captioned images.
//!
//! All come from endless streams: `data_loaders::PretrainSet`, whose classes differ from those of the `mini/` tasks
//! (`images`), `data_loaders::TextStream`, which does not use their prompt template (`language`), and
//! `data_loaders::CaptionStream`, mostly captions (`llava`). The training loop is that of all trainings
//! (`train::trainer`), so a pre-training is resumed like a run; the result is a function of the seed and the settings.

mod caption_batch;
mod images;
mod language;
mod llava;
mod stream;

use std::path::{Path, PathBuf};

use anyhow::Result;
use backbones::registry;
use backbones::weights::Target;
use report::record::canonical_hash;
use san_core::Weights;
use san_core::io::safetensors::TensorFile;
use san_core::spec::model::ModelSpec;
use serde::Serialize;
use tch::Device;

use crate::io::files::writing;
use crate::train::trainer::RunControl;

/// How a backbone is trained.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// Name in the registry.
    pub backbone: String,
    /// Optimiser steps.
    pub steps: u64,
    /// Images per step.
    pub batch_size: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Weight decay of matrices.
    pub weight_decay: f64,
    /// Seed of the images and the initial weights.
    pub seed: u64,
    /// A file of the same backbone to continue from, instead of initial weights.
    #[serde(skip)]
    pub from: Option<PathBuf>,
}

impl Settings {
    /// The name of the training: the hash of all that its result depends on, the file that it continues from included.
    ///
    /// # Errors
    /// When that file cannot be read.
    pub fn name(&self) -> Result<String> {
        let from = self.from.as_deref().map(TensorFile::read).transpose()?;
        let from = from.map(|file| file.checksum);
        Ok(canonical_hash(&serde_json::json!({"pretraining": self, "from": from})))
    }
}

/// Trains and writes the weights as f16 to `output`, and the training log into `log`; returns a summary as text.
///
/// # Errors
/// When the backbone is unknown, the loss is not finite, a file cannot be written, or a signal asked to stop.
pub fn pretrain(
    settings: &Settings,
    device: Device,
    output: &Path,
    log: &Path,
    control: &mut RunControl<'_>,
) -> Result<String> {
    // Checked before hours of training: is there a folder to write to?
    let folder = output.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    writing(output, std::fs::read_dir(folder))?;
    let training = Training { settings, device, output, log };
    if let Some((architecture, files)) = registry::bundled_language(&settings.backbone) {
        return language::pretrain(&training, &*architecture, files, control);
    }
    match registry::bundled_llava(&settings.backbone) {
        Some((_, files)) => llava::pretrain(&training, files, control),
        None => images::pretrain(&training, control),
    }
}

/// What all pre-trainings are given.
struct Training<'a> {
    settings: &'a Settings,
    device: Device,
    /// The weights.
    output: &'a Path,
    /// Folder of the training log.
    log: &'a Path,
}

/// What a training starts from.
struct Start {
    /// On the device.
    weights: Weights,
    /// The settings that are stored in the output file: if it continues from a file, with that file's checksum and
    /// settings.
    provenance: serde_json::Value,
}

impl Start {
    /// From the file that the settings name, or from `initial` weights. The file is read before hours of training.
    fn of(
        settings: &Settings,
        model_spec: &ModelSpec,
        device: Device,
        initial: impl FnOnce() -> Result<Weights>,
    ) -> Result<Self> {
        let mut provenance = serde_json::to_value(settings)?;
        let Some(path) = &settings.from else { return Ok(Self { weights: initial()?, provenance }) };
        let TensorFile { tensors, metadata, checksum } = TensorFile::read(path)?;
        let config = metadata.get("config").and_then(|text| serde_json::from_str(text).ok());
        let before = config.map(|config: serde_json::Value| config["pretraining"].clone());
        provenance["from"] = serde_json::json!({"checksum": checksum, "pretraining": before});
        let target = Target { device, ..Target::default() };
        let kept = tensors.into_iter().map(|(name, tensor)| Ok((name, target.keep(&tensor)?)));
        let weights = Weights::new(kept.collect::<Result<_>>()?);
        weights.check(model_spec, &path.display().to_string())?;
        Ok(Self { weights, provenance })
    }

    /// From the file, or with random weights.
    fn or_random(settings: &Settings, model_spec: &ModelSpec, device: Device) -> Result<Self> {
        Self::of(settings, model_spec, device, || {
            Ok(Weights::random(model_spec, settings.seed)?.to_device(device)?)
        })
    }
}
