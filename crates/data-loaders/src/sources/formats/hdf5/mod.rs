//! Images and numbers in HDF5 files (The HDF Group, "HDF5 File Format Specification", version 3.0), as far as h5py writes
//! them by default: superblock 0, groups as symbol tables, data sets of bytes in one piece or in chunks of deflated
//! bytes. What h5py can write besides is refused by name.
//!
//! `file` finds a data set by its name, `chunks` reads its values; chunks are unpacked where they are entered. All sizes
//! in a file are compared with the file before anything is allocated.

mod chunks;
mod file;

use std::path::{Path, PathBuf};

use self::chunks::Dataset;
use crate::sources::formats::raw::{Order, Shape};
use crate::sources::sample::{Content, Records};

/// The most values that are read at once; the largest set has 262,144 labels.
const MOST_VALUES: u64 = 1 << 24;

/// All values of a data set of bytes.
pub(crate) fn bytes(path: &Path, name: &str) -> Result<Vec<u8>, String> {
    let read = || {
        let dataset = Dataset::open(path, name)?;
        let count = dataset.dims().iter().try_fold(1_u64, |count, dim| count.checked_mul(*dim));
        match count {
            Some(count) if count <= MOST_VALUES => dataset.rows(0, dataset.dims()[0]),
            _ => Err(format!("it claims {:?} values; at most {MOST_VALUES} are read", dataset.dims())),
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
    /// Opens a data set of images.
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
