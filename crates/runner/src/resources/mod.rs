//! What a process opens once and shares between runs: data sets, models, features.

mod data;
mod device_images;
mod feature_file;
mod features;
mod models;
mod source;
mod synthetic_checksums;

use std::path::{Path, PathBuf};

use tch::Device;

pub use data::DataSets;
pub use device_images::{DeviceImages, normalised};
pub use feature_file::{FeatureFile, FeatureTable};
pub use features::{FeatureCache, Features};
pub use models::Models;
pub use source::DataSource;

/// What a process of this program has in memory without any tensor: the program, and libtorch with its buffers. Measured:
/// docs/scale.md.
pub const PROGRAM_BYTES: u64 = 300 << 20;
/// Memory that the C library's allocator keeps between tensors, in percent of theirs. Measured: docs/scale.md.
const GAPS_PERCENT: u64 = 15;

/// Peak memory of a process that computes on the processor, from the peak of its tensors; both in bytes.
pub fn process_bytes(tensors: u64) -> u64 {
    PROGRAM_BYTES + tensors + tensors / 100 * GAPS_PERCENT
}

/// Everything that runs share.
pub struct Resources {
    /// Data sets under `SAN_DATA`, and synthetic ones.
    pub data: DataSets,
    /// Models under `SAN_WEIGHTS`, and bundled ones.
    pub models: Models,
    /// Features of frozen models.
    pub features: FeatureCache,
    /// Images on a GPU.
    pub images: DeviceImages,
}

impl Resources {
    /// With nothing open yet; the root folders are those of `SAN_DATA` and `SAN_WEIGHTS`.
    pub fn new(device: Device) -> Self {
        Self {
            data: DataSets::new(root("SAN_DATA")),
            models: Models::new(root("SAN_WEIGHTS"), device),
            features: FeatureCache::default(),
            images: DeviceImages::default(),
        }
    }

    /// Stores checksums of synthetic sets and image hashes in a results folder; with `trusted`, the stored checksums
    /// are used.
    #[must_use]
    pub fn keeping_checksums(self, results: &Path, trusted: bool) -> Self {
        Self { data: self.data.keeping_checksums(results, trusted), ..self }
    }

    /// Stores image hashes in a results folder, and uses those of files that have not changed since.
    #[must_use]
    pub fn keeping_file_hashes(self, results: &Path) -> Self {
        Self { data: self.data.keeping_file_hashes(results), ..self }
    }

    /// Keeps features of pictures in files of a folder, if one is given, for this and every later run.
    #[must_use]
    pub fn caching_features(self, folder: Option<PathBuf>) -> Self {
        Self { features: self.features.in_folder(folder), ..self }
    }
}

/// The folder that an environment variable names; `None` if it is unset or empty.
fn root(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
