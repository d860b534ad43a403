//! The frozen vision tower: from pixels to the features that enter the projector.

use anyhow::{Result, bail};
use backbones::{Architecture, Backbone};
use data_loaders::vl::PictureProtocol;
use san_core::nn::builder::{AdapterSet, ModelBuilder};
use tch::{Device, Kind, Tensor, no_grad};

use crate::io::transfer::to_device;
use crate::models::LoadedLanguageModel;
use crate::models::reader::ReaderArchitecture;
use crate::resources::FeatureTable;

/// Pictures per forward pass of the tower.
pub(super) const TOWER_BATCH: usize = 64;

/// The tower of a vision-language model.
pub(super) struct Tower {
    model: Box<dyn Backbone>,
    image_size: i64,
    /// Dtype of the features. The projector rounds its input to that of its weights, so nothing is lost.
    kind: Kind,
    device: Device,
}

impl Tower {
    pub(super) fn new(
        model: &LoadedLanguageModel,
        protocol: &PictureProtocol,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        let ReaderArchitecture::Llava(architecture, weights) = &model.architecture else {
            bail!("a language model without a vision tower cannot take images")
        };
        let model = architecture.tower.build(&ModelBuilder::new(weights, &AdapterSet::default()))?;
        Ok(Self { model, image_size: i64::from(protocol.image_size), kind, device })
    }

    /// Features `[pictures, tokens, width]` of pixels `[pictures, 3, size, size]`.
    pub(super) fn encode(&self, pixels: &[f32]) -> Result<Tensor> {
        let size = self.image_size;
        let pixels = Tensor::f_from_slice(pixels)?.f_view([-1, 3, size, size])?;
        let parts = pixels.f_split(TOWER_BATCH as i64, 0)?;
        let encode = |some: &Tensor| -> Result<Tensor> {
            let some = to_device(some, self.device)?;
            Ok(no_grad(|| self.model.tokens(&some)).f_to_kind(self.kind)?)
        };
        let features = parts.iter().map(encode).collect::<Result<Vec<_>>>()?;
        match &features[..] {
            [one] => Ok(one.shallow_clone()),
            several => Ok(Tensor::f_cat(several, 0)?),
        }
    }

    /// On the device, in the dtype of the features.
    pub(super) fn place(&self, features: &Tensor) -> Result<Tensor> {
        Ok(to_device(features, self.device)?.f_to_kind(self.kind)?)
    }
}

/// The table of the features of some pictures, `[pictures, tokens, width]`.
pub(super) fn table(tower: &dyn Architecture, kind: Kind, pictures: usize, key: String) -> FeatureTable {
    let width = tower.model_spec("tower").head.map_or(0, |head| head.features);
    FeatureTable { key, shape: vec![pictures as i64, tower.token_count(), width], kind }
}

/// blake3 (hex) of the tower's configuration and weights, so that models that share a tower share its features.
pub(super) fn checksum(model: &LoadedLanguageModel) -> Result<String> {
    let ReaderArchitecture::Llava(architecture, weights) = &model.architecture else {
        bail!("a language model without a vision tower cannot take images")
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(architecture.tower.published_config()?.to_string().as_bytes());
    for (name, tensor) in weights.iter() {
        let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        hasher.update(format!("{name} {:?} {:?}", tensor.kind(), tensor.size()).as_bytes()).update(&bytes);
    }
    Ok(hasher.finalize().to_hex().to_string())
}
