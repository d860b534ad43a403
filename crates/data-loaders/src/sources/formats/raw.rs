//! Raw pixels in arrays: the memory orders used by datasets, and files of fixed-size records.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::io::files;
use crate::sources::sample::{Content, Records};
use crate::transform::decode::check_size;

/// Memory layout of one image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// 1 or 3.
    pub(crate) channels: usize,
    pub(crate) order: Order,
    /// Factor applied to stored values, 255 for values 0 and 1.
    pub(crate) scale: u8,
}

/// Index order, fastest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Channel, column, row: as in an `RgbImage`.
    Interleaved,
    /// Column, row, channel: CIFAR.
    Planar,
    /// Row, column, channel: MATLAB.
    ColumnMajor,
}

impl Shape {
    /// The shape, if it is valid for an image: sizes come from files.
    pub(crate) fn checked(self) -> Result<Self, String> {
        check_size(self.width as u64, self.height as u64)
            .map_err(|reason| format!("the size of its images: {reason}"))?;
        Ok(self)
    }

    /// Bytes of one image.
    pub(crate) fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Converts the bytes to an image.
    pub(crate) fn picture(&self, bytes: &[u8]) -> Result<RgbImage, String> {
        let Self { height, width, channels, order, scale } = *self;
        if bytes.len() != self.len() {
            return Err(format!("it has {} values, not {}", bytes.len(), self.len()));
        }
        let at = |x: usize, y: usize, channel: usize| match order {
            Order::Interleaved => (y * width + x) * channels + channel,
            Order::Planar => (channel * height + y) * width + x,
            Order::ColumnMajor => (channel * width + x) * height + y,
        };
        Ok(RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let value = |channel: usize| {
                bytes[at(x as usize, y as usize, channel.min(channels - 1))].saturating_mul(scale)
            };
            image::Rgb([value(0), value(1), value(2)])
        }))
    }
}

/// Fixed-size image records in a file.
pub(crate) struct FixedRecords {
    pub(crate) path: PathBuf,
    /// Offset of the first image's pixels.
    pub(crate) offset: u64,
    /// Distance between consecutive images.
    pub(crate) stride: u64,
    pub(crate) shape: Shape,
}

impl FixedRecords {
    /// These records, if the file holds `count` of them.
    pub(crate) fn checked(self, count: usize) -> Result<Self, String> {
        let Self { offset, stride, shape, .. } = &self;
        let last = (count as u64).saturating_sub(1).checked_mul(*stride);
        let end = last.and_then(|last| last.checked_add(offset + shape.len() as u64));
        let size = self.path.metadata().map_err(|error| error.to_string())?.len();
        match end {
            Some(end) if count == 0 || end <= size => Ok(self),
            _ => Err(format!("its {size} bytes cannot contain {count} images; is the file truncated?")),
        }
    }
}

impl Records for FixedRecords {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, index: u64) -> Result<Content, String> {
        let mut bytes = vec![0; self.shape.len()];
        let mut read = || {
            let mut file = files::open(&self.path, u64::MAX)?;
            file.seek(SeekFrom::Start(self.offset + self.stride * index))?;
            file.read_exact(&mut bytes)
        };
        read().map_err(|error| error.to_string())?;
        self.shape.picture(&bytes).map(Content::Pixels)
    }
}

/// Images back to back in memory, for formats that have to be unpacked whole.
pub(crate) struct InMemoryRecords {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) shape: Shape,
}

impl Records for InMemoryRecords {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, index: u64) -> Result<Content, String> {
        let start = usize::try_from(index).ok().and_then(|index| index.checked_mul(self.shape.len()));
        let bytes = start.and_then(|start| self.bytes.get(start..)?.get(..self.shape.len()));
        self.shape.picture(bytes.ok_or("there is no such record")?).map(Content::Pixels)
    }
}
