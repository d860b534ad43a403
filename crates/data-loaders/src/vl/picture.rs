//! The image of a question and its conversion to the vision tower's input: padded to a square with the mean colour, as
//! in LLaVA-1.5's training and evaluation, or stretched, then resized and normalised like any other image.

use std::path::PathBuf;
use std::sync::Arc;

use image::{Rgb, RgbImage, imageops};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::io::files::{self, MAX_IMAGE_BYTES};
use crate::sources::sample::Content;
use crate::sources::sample::decode;
use crate::transform::protocol::{Filter, ImageProtocol, Normalisation, Resize};
use crate::transform::resize;

/// The source of an image.
#[derive(Debug, Clone)]
pub enum Picture {
    /// A file.
    File(PathBuf),
    /// The bytes of an image file inside another file, which is named in messages.
    Inside(PathBuf, Arc<[u8]>),
    /// Synthetic: side in pixels and interleaved RGB bytes.
    Pixels(u32, Arc<[u8]>),
}

impl Picture {
    /// Name of the file; empty for a synthetic image.
    pub(crate) fn file_name(&self) -> String {
        match self {
            Self::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Inside(..) | Self::Pixels(..) => String::new(),
        }
    }

    /// Identifies the image: equal for the same image.
    pub fn identity(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Inside(_, bytes) | Self::Pixels(_, bytes) => blake3::hash(bytes).to_hex().to_string(),
        }
    }

    /// The decoded image; `set` is used in messages.
    ///
    /// # Errors
    /// If it cannot be read or decoded.
    pub fn load(&self, set: &str) -> Result<RgbImage, DataError> {
        let bad =
            |path: &PathBuf, reason| DataError::BadImage { set: set.into(), path: path.clone(), reason };
        match self {
            Self::File(path) => {
                let bytes = files::read(path, MAX_IMAGE_BYTES).map_err(|source| DataError::Read {
                    set: set.into(),
                    path: path.clone(),
                    source,
                })?;
                decode(Content::Encoded(bytes)).map_err(|reason| bad(path, reason))
            }
            Self::Inside(path, bytes) => {
                decode(Content::Encoded(bytes.to_vec())).map_err(|reason| bad(path, reason))
            }
            Self::Pixels(side, bytes) => RgbImage::from_raw(*side, *side, bytes.to_vec()).ok_or_else(|| {
                bad(&"a synthetic image".into(), "its size differs from that of the data set".into())
            }),
        }
    }
}

/// How an image is made square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Square {
    /// Padded on both sides with the mean colour of the normalisation.
    Pad,
    /// Stretched, without keeping the aspect ratio.
    Stretch,
}

/// The deterministic path from an image to the vision tower's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureProtocol {
    /// Side of the square input, in pixels.
    pub image_size: u32,
    /// How the image is made square.
    pub square: Square,
    /// The interpolation kernel.
    pub filter: Filter,
    /// The affine map applied to values in 0..=1.
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub normalisation: Normalisation,
}

/// The fields of a [`PictureProtocol`] that are given; the others are the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PictureSettings {
    /// Side of the square input, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<u32>,
    /// How the image is made square.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub square: Option<Square>,
    /// The interpolation kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// The affine map applied to values in 0..=1.
    #[serde(skip_serializing_if = "Option::is_none", with = "serde_yaml::with::singleton_map")]
    pub normalisation: Option<Normalisation>,
}

impl PictureSettings {
    /// Whether no field is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The protocol, if every field is given.
    ///
    /// # Errors
    /// The name of the first field that is not.
    pub fn complete(self) -> Result<PictureProtocol, &'static str> {
        Ok(PictureProtocol {
            image_size: self.image_size.ok_or("image_size")?,
            square: self.square.ok_or("square")?,
            filter: self.filter.ok_or("filter")?,
            normalisation: self.normalisation.ok_or("normalisation")?,
        })
    }

    /// With the input of the model's tower in place of what is not given. An image is padded, as by LLaVA-1.5, unless the
    /// tower's training stretched it.
    #[must_use]
    pub fn or(self, tower: ImageProtocol) -> Self {
        let square = if tower.resize == Resize::Plain { Square::Stretch } else { Square::Pad };
        Self {
            image_size: self.image_size.or(Some(tower.image_size)),
            square: self.square.or(Some(square)),
            filter: self.filter.or(Some(tower.filter)),
            normalisation: self.normalisation.or(Some(tower.normalisation)),
        }
    }
}

impl PictureProtocol {
    /// LLaVA-1.5's: CLIP at 336 pixels.
    pub const LLAVA: Self = Self {
        image_size: 336,
        square: Square::Pad,
        filter: Filter::Bicubic,
        normalisation: Normalisation::Clip,
    };

    fn plain(&self) -> ImageProtocol {
        let Self { image_size, filter, normalisation, .. } = *self;
        ImageProtocol { image_size, resize: Resize::Plain, filter, normalisation }
    }

    /// Decoded, squared and resized: interleaved RGB bytes.
    ///
    /// # Errors
    /// If the image cannot be read, or the size is invalid.
    pub fn bytes(&self, set: &str, picture: &Picture) -> Result<Vec<u8>, DataError> {
        resize::check_size(self.image_size)?;
        let image = picture.load(set)?;
        let image = match self.square {
            Square::Pad => padded(image, mean_colour(self.normalisation)),
            Square::Stretch => image,
        };
        resize::resize(&image, &self.plain()).map_err(|reason| DataError::BadImage {
            set: set.into(),
            path: picture.file_name().into(),
            reason,
        })
    }

    /// Normalised planes of several images, `[pictures, 3, side, side]`, processed in parallel.
    ///
    /// # Errors
    /// As [`PictureProtocol::bytes`], for the first image that fails.
    pub fn read(&self, set: &str, pictures: &[&Picture]) -> Result<Vec<f32>, DataError> {
        let plane = |picture: &&Picture| {
            let bytes = self.bytes(set, picture)?;
            let mut values = vec![0.0; bytes.len()];
            resize::normalise(&bytes, &resize::levels(&self.plain()), &mut values);
            Ok(values)
        };
        let planes: Vec<Result<Vec<f32>, DataError>> = pictures.par_iter().map(plane).collect();
        Ok(planes.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    }
}

/// The normalisation's mean as a colour, truncated to integers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn mean_colour(normalisation: Normalisation) -> Rgb<u8> {
    let (mean, _) = normalisation.statistics();
    Rgb(mean.map(|value| (f64::from(value) * 255.0) as u8))
}

/// The image centred in a square as large as its longer side; an odd pixel of padding goes to the right or bottom.
fn padded(image: RgbImage, colour: Rgb<u8>) -> RgbImage {
    let (width, height) = image.dimensions();
    if width == height {
        return image;
    }
    let side = width.max(height);
    let mut square = RgbImage::from_pixel(side, side, colour);
    imageops::replace(&mut square, &image, i64::from((side - width) / 2), i64::from((side - height) / 2));
    square
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_padded_to_a_square_with_the_mean_colour() {
        let mean = mean_colour(Normalisation::Clip);
        assert_eq!(mean, Rgb([122, 116, 104]));
        let red = Rgb([255, 0, 0]);
        let wide = padded(RgbImage::from_pixel(4, 1, red), mean);
        let column: Vec<_> = (0..4).map(|row| *wide.get_pixel(2, row)).collect();
        assert_eq!(column, [mean, red, mean, mean]);
        let high = padded(RgbImage::from_pixel(1, 3, red), mean);
        let row: Vec<_> = (0..3).map(|column| *high.get_pixel(column, 1)).collect();
        assert_eq!(row, [mean, red, mean]);
    }

    #[test]
    fn padding_is_optional_and_nearly_zero_after_normalisation() {
        let protocol = PictureProtocol { image_size: 8, ..PictureProtocol::LLAVA };
        let mut bytes = std::io::Cursor::new(Vec::new());
        RgbImage::from_pixel(8, 2, Rgb([255, 255, 255]))
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        let picture = Picture::Inside("a.tsv".into(), bytes.into_inner().into());
        let padded = protocol.read("a", &[&picture, &picture]).unwrap();
        assert_eq!(padded.len(), 2 * 3 * 64);
        assert!(padded[0].abs() < 0.02 && padded[8 * 4] > 1.5, "{:?}", &padded[..64]);
        let stretched = PictureProtocol { square: Square::Stretch, ..protocol };
        assert!(stretched.read("a", &[&picture]).unwrap().iter().all(|value| *value > 1.5));
    }
}
