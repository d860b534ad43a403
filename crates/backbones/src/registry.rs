//! Configurations by name: the published ones under timm's names, and the bundled micro models.

use san_core::Error;
use san_core::error::did_you_mean;

use crate::{Architecture, vit};

/// Where a configuration's weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Trained by this project on drawn images; the file is part of the program.
    Bundled(&'static [u8]),
    /// A file `<name>/model.safetensors` under `SAN_WEIGHTS`.
    File,
}

/// Made by `san pretrain vit_micro`.
const VIT_MICRO: &[u8] = include_bytes!("../../../assets/vit_micro.safetensors");

/// A named model.
#[derive(Debug)]
pub struct Entry {
    /// Name in experiment files, and of its folder under `SAN_WEIGHTS`.
    pub name: &'static str,
    /// Where its weights come from.
    pub origin: Origin,
    /// The configuration.
    pub architecture: Box<dyn Architecture>,
}

/// Every model.
pub fn entries() -> Vec<Entry> {
    let file = |name, architecture: vit::Config| Entry {
        name,
        origin: Origin::File,
        architecture: Box::new(architecture),
    };
    vec![
        Entry { name: "vit_micro", origin: Origin::Bundled(VIT_MICRO), architecture: Box::new(vit_micro()) },
        file("vit_tiny_patch16_224.augreg_in21k", vit::Config::new(224, 16, 192, 12, 3)),
        file("vit_small_patch16_224.augreg_in21k", vit::Config::new(224, 16, 384, 12, 6)),
        file("vit_base_patch16_224.augreg_in21k", vit::Config::new(224, 16, 768, 12, 12)),
        file("vit_large_patch16_224.augreg_in21k", vit::Config::new(224, 16, 1024, 24, 16)),
        file(
            "vit_small_patch14_imgfocus",
            vit::Config { init_values: Some(1e-5), ..vit::Config::new(224, 14, 384, 12, 6) },
        ),
    ]
}

/// The bundled ViT: 32 px in 16 patches, small enough to train two hundred times in ten minutes.
fn vit_micro() -> vit::Config {
    vit::Config::new(32, 8, 64, 6, 4)
}

/// The model of that name.
///
/// # Errors
/// When there is none; the nearest name is given.
pub fn find(name: &str) -> Result<Entry, Error> {
    let entries = entries();
    let hint = did_you_mean(name, entries.iter().map(|entry| entry.name));
    entries
        .into_iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Error::UnknownBackbone { name: name.into(), hint })
}
