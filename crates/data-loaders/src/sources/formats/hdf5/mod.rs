//! Reads images and numbers from HDF5 files (The HDF Group, "HDF5 File Format Specification", version 3.0), to the
//! extent that h5py writes them by default: superblock 0, groups as symbol tables, byte datasets, contiguous or in
//! deflated chunks. Other features that h5py can write are rejected with an error that names them.
//!
//! `file` finds a dataset by name, `chunks` reads its values; chunks are unpacked on access. All sizes in a file are
//! checked against the file size before anything is allocated.

mod chunks;
mod file;

use std::path::{Path, PathBuf};

use self::chunks::Dataset;
use crate::sources::formats::raw::{Order, Shape};
use crate::sources::sample::{Content, Records};

/// Maximum number of values per read; the largest dataset has 262,144 labels.
const MAX_VALUES: u64 = 1 << 24;

/// All values of a byte dataset.
pub(crate) fn bytes(path: &Path, name: &str) -> Result<Vec<u8>, String> {
    let read = || {
        let dataset = Dataset::open(path, name)?;
        let count = dataset.dims().iter().try_fold(1_u64, |count, dim| count.checked_mul(*dim));
        match count {
            Some(count) if count <= MAX_VALUES => dataset.rows(0, dataset.dims()[0]),
            _ => Err(format!("it claims {:?} values; at most {MAX_VALUES} are supported", dataset.dims())),
        }
    };
    read().map_err(|reason| format!("`{name}`: {reason}"))
}

/// Images `[images, height, width, 3]` of bytes.
pub(crate) struct Hdf5Records {
    path: PathBuf,
    dataset: Dataset,
    shape: Shape,
}

impl Hdf5Records {
    /// Opens an image dataset.
    pub(crate) fn open(path: PathBuf, name: &str) -> Result<Self, String> {
        let dataset = Dataset::open(&path, name).map_err(|reason| format!("`{name}`: {reason}"))?;
        let &[_, height, width, 3] = dataset.dims() else {
            return Err(format!(
                "`{name}` has the shape {:?}, not [images, height, width, 3]",
                dataset.dims()
            ));
        };
        let (height, width) = (height as usize, width as usize);
        let shape = Shape { height, width, channels: 3, order: Order::Interleaved, scale: 1 }.checked()?;
        Ok(Self { path, dataset, shape })
    }

    /// Number of images.
    pub(crate) fn count(&self) -> usize {
        self.dataset.dims()[0] as usize
    }
}

impl Records for Hdf5Records {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, index: u64) -> Result<Content, String> {
        self.shape.picture(&self.dataset.rows(index, 1)?).map(Content::Pixels)
    }
}
