//! Images and numbers in HDF5 files, through the library `hdf5-reader`: chunks are unpacked where they are entered.

use std::path::{Path, PathBuf};

use hdf5_reader::{Dataset, Hdf5File, SliceInfo, SliceInfoElem};

use super::raw::{Order, Shape};
use crate::sample::{Content, Records};

/// All values of a data set of bytes.
pub(crate) fn bytes(path: &Path, name: &str) -> Result<Vec<u8>, String> {
    let read = || -> Result<Vec<u8>, hdf5_reader::error::Error> {
        let values = Hdf5File::open(path)?.dataset(name)?.read_array::<u8>()?;
        Ok(values.into_iter().collect())
    };
    read().map_err(|error| format!("`{name}`: {error}"))
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
        let open = || Hdf5File::open(&path)?.dataset(name);
        let dataset = open().map_err(|error| format!("`{name}`: {error}"))?;
        let &[_, height, width, 3] = dataset.shape() else {
            return Err(format!(
                "`{name}` has the shape {:?}, not [images, height, width, 3]",
                dataset.shape()
            ));
        };
        let (height, width) = (height as usize, width as usize);
        let shape = Shape { height, width, channels: 3, order: Order::Interleaved, scale: 1 }.checked()?;
        Ok(Self { path, dataset, shape })
    }

    /// Number of images.
    pub(crate) fn count(&self) -> usize {
        self.dataset.shape().first().map_or(0, |count| *count as usize)
    }
}

impl Records for Hdf5Records {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, index: u64) -> Result<Content, String> {
        let mut slice = SliceInfo::all(4);
        slice.selections[0] = SliceInfoElem::Index(index);
        let values = self.dataset.read_slice::<u8>(&slice).map_err(|error| error.to_string())?;
        let bytes: Vec<u8> = values.into_iter().collect();
        self.shape.picture(&bytes).map(Content::Pixels)
    }
}
