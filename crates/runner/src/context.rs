//! What a process opens once and uses for many cells: data sets, backbones, frozen features.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use backbones::Architecture;
use backbones::registry::{self, Origin};
use backbones::weights::{self, Checkpoint};
use data_loaders::{ImageSet, dataset};
use san_core::{Layout, Weights};
use tch::{Device, Tensor};

use crate::error::RunError;
use crate::experiment::DataSource;

/// The seed of a backbone with random weights.
const RANDOM_WEIGHTS_SEED: u64 = 0;
/// What marks one.
const RANDOM: &str = "@random";

/// A backbone with its frozen weights.
#[derive(Debug)]
pub struct LoadedBackbone {
    /// The configuration at the protocol's image size.
    pub architecture: Box<dyn Architecture>,
    /// Tensors, sites and norms.
    pub layout: Layout,
    /// The frozen weights, on the device.
    pub weights: Weights,
    /// blake3 of the file, or `random:<seed>`.
    pub checksum: String,
}

/// What a frozen backbone makes of one split.
#[derive(Debug)]
pub struct Features {
    /// `[images, features]`, on the device.
    pub tensor: Tensor,
    /// Time of the forward passes.
    pub computing: Duration,
    /// Time of reading the images.
    pub reading: Duration,
}

/// Everything that cells share.
pub struct Context {
    device: Device,
    data_root: Option<PathBuf>,
    weights_root: Option<PathBuf>,
    sets: HashMap<String, Rc<ImageSet>>,
    backbones: HashMap<(String, u32), Rc<LoadedBackbone>>,
    features: HashMap<String, Features>,
}

impl Context {
    /// Roots are taken from `SAN_DATA` and `SAN_WEIGHTS`.
    pub fn new(device: Device) -> Self {
        let root = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            device,
            data_root: root("SAN_DATA"),
            weights_root: root("SAN_WEIGHTS"),
            sets: HashMap::new(),
            backbones: HashMap::new(),
            features: HashMap::new(),
        }
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Opens or draws a set. The last few stay open, for cells come set by set.
    ///
    /// # Errors
    /// When the set is unknown, its folder is missing, or its lists are wrong.
    pub fn set(&mut self, name: &str, source: &DataSource, image_size: u32) -> Result<Rc<ImageSet>> {
        let key = format!("{name} {source:?} {image_size}");
        if let Some(set) = self.sets.get(&key) {
            return Ok(set.clone());
        }
        let entry = dataset(name)?;
        let set = match source {
            DataSource::Drawn(counts) => ImageSet::draw(entry, *counts, image_size)?,
            DataSource::Files(folder) => {
                let root = self.data_root.as_ref().ok_or_else(|| RunError::Missing {
                    what: format!("data set `{name}`"),
                    reason: "set SAN_DATA to the folder that holds the data".into(),
                })?;
                ImageSet::open(entry, &root.join(folder))?
            }
        };
        if self.sets.len() >= 2 {
            self.sets.clear();
            self.features.clear();
        }
        let set = Rc::new(set);
        self.sets.insert(key, set.clone());
        Ok(set)
    }

    /// Features that another cell computed.
    pub fn features(&self, key: &str) -> Option<&Features> {
        self.features.get(key)
    }

    /// Keeps features while their set is open.
    pub fn remember_features(&mut self, key: String, features: Features) {
        self.features.insert(key, features);
    }

    /// A backbone with its weights on the device.
    ///
    /// # Errors
    /// When it is unknown, or its weights are missing or do not fit.
    pub fn backbone(&mut self, name: &str, image_size: u32) -> Result<Rc<LoadedBackbone>> {
        let key = (name.to_owned(), image_size);
        if let Some(backbone) = self.backbones.get(&key) {
            return Ok(backbone.clone());
        }
        let backbone = Rc::new(self.load(name, image_size)?);
        self.backbones.insert(key, backbone.clone());
        Ok(backbone)
    }

    fn load(&self, name: &str, image_size: u32) -> Result<LoadedBackbone> {
        let published = name.strip_suffix(RANDOM).unwrap_or(name);
        let entry = registry::find(published)?;
        let architecture = entry.architecture.at_image_size(i64::from(image_size))?;
        let layout = architecture.layout(name);
        let checkpoint = if name.ends_with(RANDOM) {
            Checkpoint {
                weights: Weights::random(&layout, RANDOM_WEIGHTS_SEED)?,
                checksum: format!("random:{RANDOM_WEIGHTS_SEED}"),
            }
        } else {
            match entry.origin {
                Origin::Bundled(bytes) => {
                    let path = PathBuf::from(format!("assets/{published}.safetensors"));
                    weights::parse(bytes, &path, &*architecture, &layout)?
                }
                Origin::File => weights::read(&self.weights_file(published)?, &*architecture, &layout)?,
            }
        };
        let weights =
            checkpoint.weights.to_device(self.device).context("moving the weights to the device")?;
        Ok(LoadedBackbone { architecture, layout, weights, checksum: checkpoint.checksum })
    }

    fn weights_file(&self, name: &str) -> Result<PathBuf, san_core::Error> {
        let missing = |place: String| san_core::Error::MissingWeights { backbone: name.into(), place };
        let root =
            self.weights_root.as_deref().ok_or_else(|| missing("SAN_WEIGHTS, which is not set".into()))?;
        let file = root.join(name).join("model.safetensors");
        if file.is_file() { Ok(file) } else { Err(missing(display(&file))) }
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
