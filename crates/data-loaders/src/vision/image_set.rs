//! One interface to images on disk and synthetic ones: labels by split, and batches through a protocol.
//!
//! The protocol is deterministic, so an image is decoded and resized once and its bytes are cached if they fit a
//! budget; a batch is then a lookup and a normalisation. Work is distributed by rayon; results do not depend on it.

use std::path::Path;
use std::sync::OnceLock;

use image::RgbImage;
use rayon::prelude::*;

use crate::error::DataError;
use crate::random::Stream;
use crate::registry::DatasetEntry;
use crate::sources::layout::{self, Drawn, SplitOrigin, own};
use crate::sources::sample::decode;
use crate::sources::sample::{Fault, Sample};
use crate::split::{Part, Split, SplitCounts, Splits};
use crate::transform::augment::Augmentation;
use crate::transform::protocol::{ImageProtocol, Resize};
use crate::transform::resize;
use crate::vision::image_cache::{ImageCache, sample_bytes};

/// Where the images come from.
enum Source {
    /// Images on disk, by part.
    Stored { parts: [Vec<Sample>; 3], drawn: Drawn, checksum: String },
    /// Generated images.
    Synthetic(Box<dyn PictureSource>),
}

/// Generated images: interleaved RGB bytes of a square.
pub(crate) trait PictureSource: Send + Sync {
    /// Side of an image in pixels.
    fn image_size(&self) -> u32;

    /// The bytes of an image.
    fn bytes(&self, part: Part, index: usize) -> Vec<u8>;

    /// blake3 (hex) of name, labels and pixels.
    fn checksum(&self) -> &str;
}

/// An opened image dataset.
pub struct ImageSet {
    name: String,
    entry: DatasetEntry,
    classes: u32,
    labels: Splits<u32>,
    source: Source,
    cache: ImageCache,
}

impl ImageSet {
    /// Opens the dataset in `<root>/<folder of the entry>`, whatever its layout, and checks lists and files.
    ///
    /// # Errors
    /// What is wrong with the folder, with dataset, file and line: see [`DataError`]. Images are decoded later, by
    /// [`ImageSet::check_images`] or [`ImageSet::read`].
    pub fn open(entry: &DatasetEntry, root: &Path) -> Result<Self, DataError> {
        let opened = layout::open(entry, root)?;
        let labels = opened.parts.each_ref().map(|part| part.iter().map(|sample| sample.label).collect());
        let layout::Opened { parts, drawn, checksum } = opened;
        let source = Source::Stored { parts, drawn, checksum };
        Ok(Self::assemble(entry.name.clone(), entry, entry.classes, labels, source))
    }

    /// Opens a folder of images without an entry in the registry; `name` is the name in results.
    ///
    /// # Errors
    /// As [`ImageSet::open`], and if the folder is of no known kind.
    pub fn open_own(name: &str, folder: &Path) -> Result<Self, DataError> {
        Self::open(&own::own_set(name, folder)?, &own::root_of(folder))
    }

    /// A dataset of generated images, with the labels of its parts.
    pub(crate) fn synthetic(
        name: String,
        entry: &DatasetEntry,
        classes: u32,
        labels: [Vec<u32>; 3],
        pictures: Box<dyn PictureSource>,
    ) -> Self {
        Self::assemble(name, entry, classes, labels, Source::Synthetic(pictures))
    }

    fn assemble(
        name: String,
        entry: &DatasetEntry,
        classes: u32,
        labels: [Vec<u32>; 3],
        source: Source,
    ) -> Self {
        let (entry, cache) = (entry.clone(), ImageCache::default());
        Self { name, entry, classes, labels: Splits::new(labels), source, cache }
    }

    /// The name used in results: the dataset's, or `mini/<set>` for a synthetic one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry entry.
    pub fn entry(&self) -> &DatasetEntry {
        &self.entry
    }

    /// Number of classes of the available images (a synthetic stand-in may have fewer than the real dataset).
    pub fn classes(&self) -> u32 {
        self.classes
    }

    /// Whether the images are synthetic.
    pub fn is_synthetic(&self) -> bool {
        matches!(self.source, Source::Synthetic(_))
    }

    /// The name of the split in every output: that of the benchmark for its own lists, otherwise `... style`.
    pub fn split_label(&self) -> &'static str {
        self.split_origin().label(self.entry.suite)
    }

    /// Origin of the split.
    pub fn split_origin(&self) -> SplitOrigin {
        match &self.source {
            Source::Synthetic(_) => SplitOrigin::Synthetic,
            Source::Stored { drawn, .. } => SplitOrigin::of(&self.entry, *drawn, self.counts()),
        }
    }

    /// Whether this is a real dataset with the published split sizes; otherwise the split is a custom one.
    pub fn has_official_split_sizes(&self) -> bool {
        self.split_origin() == SplitOrigin::Published
    }

    /// Numbers of images in the three parts.
    pub fn counts(&self) -> SplitCounts {
        self.labels.counts()
    }

    /// The labels of a split, each below [`ImageSet::classes`].
    pub fn labels(&self, split: Split) -> &[u32] {
        self.labels.of(split)
    }

    /// Number of images in a split.
    pub fn len(&self, split: Split) -> usize {
        self.labels(split).len()
    }

    /// Whether a split is empty (only possible for a synthetic dataset).
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// blake3 (hex) of the manifest of a dataset on disk ([`crate::verify`] writes it), or of the synthetic pixels and
    /// labels.
    pub fn checksum(&self) -> &str {
        match &self.source {
            Source::Stored { checksum, .. } => checksum,
            Source::Synthetic(pictures) => pictures.checksum(),
        }
    }

    /// Decodes every image once, so that a broken file is detected before training starts.
    ///
    /// # Errors
    /// [`DataError::BadImage`] or [`DataError::Read`], for the first image in list order.
    pub fn check_images(&self) -> Result<(), DataError> {
        for part in Part::ALL {
            let results: Vec<_> = (0..self.labels.part_len(part))
                .into_par_iter()
                .map(|index| self.picture(part, index).map(drop))
                .collect();
            results.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    /// Appends the images at `indices` of a split to `pixels` as f32 in NCHW order: `[indices, 3, side, side]`.
    ///
    /// # Errors
    /// An index out of range, an image that cannot be read, an invalid image size; `pixels` is then unchanged.
    pub fn read(
        &self,
        split: Split,
        indices: &[usize],
        protocol: &ImageProtocol,
        pixels: &mut Vec<f32>,
    ) -> Result<(), DataError> {
        resize::check_size(protocol.image_size)?;
        let start = pixels.len();
        pixels.resize(start + indices.len() * sample_bytes(protocol.image_size), 0.0);
        let result = self.fill(split, indices, protocol, &mut pixels[start..]);
        if result.is_err() {
            pixels.truncate(start);
        }
        result
    }

    /// The images at `indices` of a split as interleaved RGB bytes, resized and not normalised: `[indices, side, side, 3]`.
    /// They are not cached here: the caller keeps them.
    ///
    /// # Errors
    /// As [`ImageSet::read`].
    pub fn read_bytes(
        &self,
        split: Split,
        indices: &[usize],
        protocol: &ImageProtocol,
    ) -> Result<Vec<u8>, DataError> {
        resize::check_size(protocol.image_size)?;
        let places = self.locate_all(split, indices)?;
        let images = places.par_iter().map(|(part, index)| self.resized(*part, *index, protocol));
        Ok(images.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Writes what [`Self::read`] appends into `planes`, which has the required size.
    pub(crate) fn fill(
        &self,
        split: Split,
        indices: &[usize],
        protocol: &ImageProtocol,
        planes: &mut [f32],
    ) -> Result<(), DataError> {
        let places = self.locate_all(split, indices)?;
        let mut cached = [None, None, None];
        for part in Part::ALL {
            if places.iter().any(|(other, _)| *other == part) {
                cached[part as usize] = self.cache.slots(part, protocol, |part| self.labels.part_len(part));
            }
        }
        let levels = resize::levels(protocol);
        let results: Vec<Result<(), DataError>> = planes
            .par_chunks_exact_mut(sample_bytes(protocol.image_size))
            .zip(&places)
            .map(|(planes, (part, index))| {
                let place = cached[*part as usize].as_ref().map(|cached| &cached[*index]);
                if let Some(bytes) = place.and_then(OnceLock::get) {
                    resize::normalise(bytes, &levels, planes);
                    return Ok(());
                }
                let bytes = self.resized(*part, *index, protocol)?;
                resize::normalise(&bytes, &levels, planes);
                if let Some(place) = place {
                    // If another thread was faster, its bytes are the same.
                    drop(place.set(bytes));
                }
                Ok(())
            })
            .collect();
        results.into_iter().collect()
    }

    /// Writes the augmented images at `indices` of a split as f32 in NCHW order: `[indices, 3, side, side]`. For a
    /// given dataset and protocol, an image is a function of (seed, epoch, index).
    ///
    /// # Errors
    /// As [`ImageSet::read`]; if several images fail, the first one's error is returned.
    pub fn read_augmented(
        &self,
        split: Split,
        indices: &[usize],
        protocol: &ImageProtocol,
        augmentation: &Augmentation,
        (seed, epoch): (u64, u64),
    ) -> Result<Vec<f32>, DataError> {
        resize::check_size(protocol.image_size)?;
        let mut pixels = vec![0.0; indices.len() * sample_bytes(protocol.image_size)];
        self.fill_augmented(split, indices, protocol, augmentation, (seed, epoch), &mut pixels)?;
        Ok(pixels)
    }

    /// Writes what [`Self::read_augmented`] returns into `planes`, which has the required size.
    pub(crate) fn fill_augmented(
        &self,
        split: Split,
        indices: &[usize],
        protocol: &ImageProtocol,
        augmentation: &Augmentation,
        (seed, epoch): (u64, u64),
        planes: &mut [f32],
    ) -> Result<(), DataError> {
        let places = self.locate_all(split, indices)?;
        let sample = sample_bytes(protocol.image_size);
        let images = planes.par_chunks_exact_mut(sample).zip(&places).zip(indices);
        let results: Vec<Result<(), DataError>> = images
            .map(|((planes, (part, place)), index)| {
                let stream = &mut Stream::new("augmentation", &[seed, epoch, *index as u64]);
                let picture = self.picture(*part, *place)?;
                let changed = augmentation.apply(&picture, protocol, stream, planes);
                changed.map_err(|reason| self.bad_image(*part, *place, reason))
            })
            .collect();
        results.into_iter().collect()
    }

    fn locate_all(&self, split: Split, indices: &[usize]) -> Result<Vec<(Part, usize)>, DataError> {
        indices.iter().map(|index| self.locate(split, *index)).collect()
    }

    fn locate(&self, split: Split, index: usize) -> Result<(Part, usize), DataError> {
        self.labels.locate(split, index).ok_or_else(|| DataError::IndexOutOfRange {
            set: self.name.clone(),
            split: split.name(),
            index,
            len: self.len(split),
        })
    }

    fn resized(&self, part: Part, index: usize, protocol: &ImageProtocol) -> Result<Vec<u8>, DataError> {
        if let Source::Synthetic(pictures) = &self.source
            && pictures.image_size() == protocol.image_size
            && protocol.resize == Resize::Plain
        {
            return Ok(pictures.bytes(part, index));
        }
        let picture = self.picture(part, index)?;
        resize::resize(&picture, protocol).map_err(|reason| self.bad_image(part, index, reason))
    }

    /// The original image, before any resizing.
    fn picture(&self, part: Part, index: usize) -> Result<RgbImage, DataError> {
        match &self.source {
            Source::Stored { parts, .. } => {
                let sample = &parts[part as usize][index];
                let content = sample.place.content().map_err(|fault| sample.error(&self.name, fault))?;
                decode(content).map_err(|reason| self.bad_image(part, index, reason))
            }
            Source::Synthetic(pictures) => {
                let bytes = pictures.bytes(part, index);
                let picture = RgbImage::from_raw(pictures.image_size(), pictures.image_size(), bytes);
                picture.ok_or_else(|| {
                    self.bad_image(part, index, "its size differs from that of the data set".to_owned())
                })
            }
        }
    }

    fn bad_image(&self, part: Part, index: usize, reason: String) -> DataError {
        match &self.source {
            Source::Stored { parts, .. } => parts[part as usize][index].error(&self.name, Fault::Bad(reason)),
            Source::Synthetic(_) => {
                let path = format!("{part:?} {index}").into();
                DataError::BadImage { set: self.name.clone(), path, reason }
            }
        }
    }
}
