//! Features that frozen models computed, cached while other runs may need them, and where those that do not fit into
//! memory go.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use tch::{Device, Tensor};

use crate::error::RunError;

/// Number of feature tensors in the cache: train and test of a few sets.
const KEPT: usize = 8;
/// The most memory for all of them, bytes, unless a single one has more.
const KEPT_BYTES: usize = 8 << 30;

/// The most memory for the features of one set of pictures, bytes; more are computed when they are needed. It is a
/// constant, not a share of what is free: an interrupted run takes the same way when it resumes.
const BUDGET_ON_CPU: u64 = 2 << 30;
const BUDGET_ON_GPU: u64 = 4 << 30;
/// Another budget in bytes, for tests and measurements.
const BUDGET_VARIABLE: &str = "SAN_FEATURE_MEMORY";

/// A frozen model's features of one split.
#[derive(Debug)]
pub struct Features {
    /// `[samples, ...]`, on the device.
    pub tensor: Tensor,
    /// Time of the forward passes.
    pub computing: Duration,
    /// Time spent reading the data.
    pub data_wait: Duration,
}

/// Features by a key of everything that they depend on.
#[derive(Debug, Default)]
pub struct FeatureCache {
    kept: HashMap<String, Features>,
    /// Keys, oldest first.
    order: Vec<String>,
    folder: Option<PathBuf>,
}

impl FeatureCache {
    /// Features of pictures are kept in files of a folder, if one is given.
    pub(super) fn in_folder(self, folder: Option<PathBuf>) -> Self {
        Self { folder, ..self }
    }

    /// The folder of the files of features, if features are to be kept in files.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The most memory for the features of one set of pictures, bytes.
    ///
    /// # Errors
    /// When `SAN_FEATURE_MEMORY` is set and not a number of bytes.
    pub fn budget(device: Device) -> Result<u64, RunError> {
        let Some(bytes) = std::env::var_os(BUDGET_VARIABLE) else {
            return Ok(if device == Device::Cpu { BUDGET_ON_CPU } else { BUDGET_ON_GPU });
        };
        let number = bytes.to_str().and_then(|bytes| bytes.parse().ok());
        let reason = || format!("{BUDGET_VARIABLE}={} is not a number of bytes", bytes.display());
        number.ok_or_else(|| RunError::CommandLine { reason: reason() })
    }

    /// Features that another run computed.
    pub fn get(&self, key: &str) -> Option<&Features> {
        self.kept.get(key)
    }

    /// Caches features; the oldest are dropped to make room.
    pub fn insert(&mut self, key: String, features: Features) {
        let bytes =
            |features: &Features| features.tensor.numel() * features.tensor.kind().elt_size_in_bytes();
        let mut all: usize = self.kept.values().map(bytes).sum::<usize>() + bytes(&features);
        while self.order.len() >= KEPT || (all > KEPT_BYTES && !self.order.is_empty()) {
            let oldest = self.kept.remove(&self.order.remove(0));
            all -= oldest.as_ref().map_or(0, bytes);
        }
        self.order.push(key.clone());
        self.kept.insert(key, features);
    }
}
