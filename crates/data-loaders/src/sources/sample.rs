//! One labelled image of a dataset on disk: a separate file, or a record of a larger one.
//!
//! Layouts create samples, `vision::image_set` reads them. No code above this module depends on whether pixels come
//! from a JPEG, a CIFAR batch or an HDF5 chunk.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use rayon::prelude::*;

use crate::error::DataError;
use crate::io::files::{self, MAX_IMAGE_BYTES};

/// A labelled image.
#[derive(Clone)]
pub(crate) struct Sample {
    /// Where it is stored.
    pub(crate) place: Place,
    /// Its class.
    pub(crate) label: u32,
    /// The list line that names it, if any.
    pub(crate) listed: Option<Listed>,
}

/// A line of a list.
#[derive(Clone)]
pub(crate) struct Listed {
    /// The list.
    pub(crate) list: Arc<Path>,
    /// Counts from 1.
    pub(crate) line: usize,
}

/// Where an image is stored.
#[derive(Clone)]
pub(crate) enum Place {
    /// A separate file.
    File(PathBuf),
    /// A record of a file.
    Record(Arc<dyn Records>, u64),
}

/// A file that contains many images.
pub(crate) trait Records: Send + Sync {
    /// The file.
    fn path(&self) -> &Path;

    /// Reads the requested records in advance, for files without random access. The error is a clause.
    fn prepare(&self, _requested: &[u64]) -> Result<(), String> {
        Ok(())
    }

    /// Reads one record, which must have been prepared if the file requires preparation.
    fn read(&self, index: u64) -> Result<Content, String>;
}

/// The stored form of an image.
pub(crate) enum Content {
    /// The bytes of an image file.
    Encoded(Vec<u8>),
    /// Raw pixels.
    Pixels(RgbImage),
}

/// Why an image is unavailable.
pub(crate) enum Fault {
    /// The operating system could not read it.
    Read(std::io::Error),
    /// Its bytes are not a valid image.
    Bad(String),
}

impl Sample {
    /// An image in a separate file that is not listed.
    pub(crate) fn file(path: PathBuf, label: u32) -> Self {
        Self { place: Place::File(path), label, listed: None }
    }

    /// The images of a record file, starting at the first, with these labels.
    pub(crate) fn records(file: &Arc<dyn Records>, labels: impl IntoIterator<Item = u32>) -> Vec<Self> {
        let place = |index| Place::Record(Arc::clone(file), index);
        let sample = |(index, label)| Self { place: place(index), label, listed: None };
        (0..).zip(labels).map(sample).collect()
    }

    /// Converts a fault of this image to an error.
    pub(crate) fn error(&self, set: &str, fault: Fault) -> DataError {
        let (set, path) = (set.to_owned(), self.place.path());
        match (fault, &self.listed) {
            (Fault::Read(source), Some(listed)) if source.kind() == std::io::ErrorKind::NotFound => {
                let Listed { list, line } = listed;
                DataError::MissingImage { set, path: list.to_path_buf(), line: *line, image: path }
            }
            (Fault::Read(source), _) => DataError::Read { set, path, source },
            (Fault::Bad(reason), Some(Listed { list, line })) => {
                DataError::BadListedImage { set, path: list.to_path_buf(), line: *line, image: path, reason }
            }
            (Fault::Bad(reason), None) => DataError::BadImage { set, path, reason },
        }
    }
}

/// The hash of each image's stored content; if several fail, the first one's error is returned.
pub(crate) fn content_hashes(set: &str, samples: &[Sample]) -> Result<Vec<blake3::Hash>, DataError> {
    let hash = |sample: &Sample| {
        sample.place.content().map(|content| content.hash()).map_err(|fault| sample.error(set, fault))
    };
    let hashes: Vec<_> = samples.par_iter().map(hash).collect();
    hashes.into_iter().collect()
}

impl Place {
    /// The file to inspect if the image is invalid.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Record(..) => PathBuf::from(self.to_string()),
        }
    }

    /// The stored content.
    pub(crate) fn content(&self) -> Result<Content, Fault> {
        match self {
            Self::File(path) => files::read(path, MAX_IMAGE_BYTES).map(Content::Encoded).map_err(Fault::Read),
            Self::Record(records, index) => records.read(*index).map_err(Fault::Bad),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Record(records, index) => write!(formatter, "{}[{index}]", records.path().display()),
        }
    }
}

impl Content {
    /// Identifies equal images: hash of the file, or of size and pixels.
    pub(crate) fn hash(&self) -> blake3::Hash {
        match self {
            Self::Encoded(bytes) => blake3::hash(bytes),
            Self::Pixels(picture) => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&picture.width().to_le_bytes()).update(picture.as_raw());
                hasher.finalize()
            }
        }
    }
}

/// Decodes the stored content.
pub(crate) fn decode(content: Content) -> Result<RgbImage, String> {
    match content {
        Content::Pixels(picture) => Ok(picture),
        Content::Encoded(bytes) => crate::transform::decode::decode(&bytes),
    }
}
