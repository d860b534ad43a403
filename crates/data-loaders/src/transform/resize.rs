//! Resizes and normalises RGB images to the network's input. Implements `ImageProtocol`.
//!
//! Conventions are PIL's: antialiased resizing, width before height, with 8-bit results after each.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use crate::error::DataError;
use crate::transform::augment::Part;
use crate::transform::decode::MAX_PIXELS;
use crate::transform::protocol::{Filter, ImageProtocol, Resize};

/// Maximum side of an input in pixels; far above any use, it keeps a typo from exhausting memory.
const MAX_SIDE: u32 = 4096;

/// Rejects a size that no image can have.
pub(crate) fn check_size(size: u32) -> Result<(), DataError> {
    if (1..=MAX_SIDE).contains(&size) { Ok(()) } else { Err(DataError::ImageSize { size }) }
}

/// Resizes an image to the protocol's size; interleaved RGB bytes.
pub(crate) fn resize(image: &RgbImage, protocol: &ImageProtocol) -> Result<Vec<u8>, String> {
    let window = match protocol.resize {
        Resize::Plain => Window::whole(image),
        Resize::TimmEval { crop_pct } => {
            let (short, side) = (crop_pct.scale_size(protocol.image_size), protocol.image_size);
            Window::crop(image, short, side, half_to_even)
        }
    };
    scale(image, window, protocol.image_size, protocol.filter)
}

/// Resizes a crop to a square of `side` without using pixels outside the crop.
pub(crate) fn resize_part(
    image: &RgbImage,
    part: Part,
    side: u32,
    filter: Filter,
) -> Result<Vec<u8>, String> {
    let cut = image::imageops::crop_imm(image, part.left, part.top, part.width, part.height).to_image();
    scale(&cut, Window::whole(&cut), side, filter)
}

/// Resizes an image so that its shorter side is `short`, at least `side`, and crops a square of `side` where `start`
/// chooses, from the number of pixels that are left over: of the rows first, then of the columns.
pub(crate) fn resize_and_crop(
    image: &RgbImage,
    short: u32,
    side: u32,
    filter: Filter,
    start: impl FnMut(u64) -> u64,
) -> Result<Vec<u8>, String> {
    scale(image, Window::crop(image, short, side, start), side, filter)
}

/// A rectangle in fractional pixels, within the image.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Window {
    fn whole(image: &RgbImage) -> Self {
        Self { left: 0.0, top: 0.0, width: f64::from(image.width()), height: f64::from(image.height()) }
    }

    /// The part of an image shown by a crop of `side` after the shorter side is resized to `short`, at least `side`;
    /// `start` chooses where, from the number of pixels that are left over.
    ///
    /// Only this part is resized: a kernel uses the same pixels with the same weights whether or not the pixels next to
    /// the crop are computed.
    fn crop(image: &RgbImage, short: u32, side: u32, mut start: impl FnMut(u64) -> u64) -> Self {
        let (width, height) = image.dimensions();
        let shorter = u64::from(width.min(height));
        // torchvision's rule: the longer side is rounded down.
        let scaled = |length: u32| u64::from(short) * u64::from(length) / shorter;
        let mut part = |length: u32| {
            let scaled = scaled(length);
            let unit = f64::from(length) / scaled as f64;
            let start = start(scaled - u64::from(side)) as f64 * unit;
            (start, (f64::from(side) * unit).min(f64::from(length) - start))
        };
        let (top, height) = part(height);
        let (left, width) = part(width);
        Self { left, top, width, height }
    }
}

/// Half of a number, rounded half to even like Python's `round`.
fn half_to_even(number: u64) -> u64 {
    let half = number / 2;
    if number % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

/// Resizes the window of the image to a square of `side`.
///
/// Width first, then height, as in PIL: the 8-bit result in between is clamped, so the order matters at hard edges.
fn scale(image: &RgbImage, window: Window, side: u32, filter: Filter) -> Result<Vec<u8>, String> {
    let (filter, reach) = match filter {
        Filter::Bilinear => (FilterType::Bilinear, 1.0),
        Filter::Bicubic => (FilterType::CatmullRom, 2.0),
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    let mut resizer = Resizer::new();

    // Only the rows that a kernel reaches.
    let reach = reach * (window.height / f64::from(side)).max(1.0) + 1.0;
    let first = (window.top - reach).max(0.0) as u32;
    let end = ((window.top + window.height + reach).ceil() as u32).min(image.height());
    let rows = end - first;
    if u64::from(rows) * u64::from(side) > MAX_PIXELS {
        return Err(format!(
            "its aspect ratio is too extreme: {} x {} pixels",
            image.width(),
            image.height()
        ));
    }
    let row_bytes = 3 * image.width() as usize;
    let bytes = &image.as_raw()[first as usize * row_bytes..end as usize * row_bytes];
    let source =
        ImageRef::new(image.width(), rows, bytes, PixelType::U8x3).map_err(|error| error.to_string())?;

    let mut narrowed = Image::new(side, rows, PixelType::U8x3);
    let columns = options.crop(window.left, 0.0, window.width, f64::from(rows));
    resizer.resize(&source, &mut narrowed, &columns).map_err(|error| error.to_string())?;
    let mut target = Image::new(side, side, PixelType::U8x3);
    let top = window.top - f64::from(first);
    let lines = options.crop(0.0, top, f64::from(side), window.height.min(f64::from(rows) - top));
    resizer.resize(&narrowed, &mut target, &lines).map_err(|error| error.to_string())?;
    Ok(target.into_vec())
}

/// Normalised value of each level of each channel: there are only 256 levels, and training looks up 150,000 of them per
/// image.
pub(crate) type Levels = [[f32; 256]; 3];

/// The normalised levels for a protocol.
pub(crate) fn levels(protocol: &ImageProtocol) -> Levels {
    let (mean, deviation) = protocol.normalisation.statistics();
    std::array::from_fn(|channel| {
        std::array::from_fn(|level| (level as f32 / 255.0 - mean[channel]) / deviation[channel])
    })
}

/// Writes interleaved RGB bytes as normalised planes: `[3, side, side]` in `planes`.
pub(crate) fn normalise(bytes: &[u8], levels: &Levels, planes: &mut [f32]) {
    let (red, others) = planes.split_at_mut(bytes.len() / 3);
    let (green, blue) = others.split_at_mut(bytes.len() / 3);
    let places = red.iter_mut().zip(green).zip(blue);
    for (((red, green), blue), pixel) in places.zip(bytes.as_chunks::<3>().0) {
        *red = levels[0][usize::from(pixel[0])];
        *green = levels[1][usize::from(pixel[1])];
        *blue = levels[2][usize::from(pixel[2])];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::protocol::Normalisation;

    #[test]
    fn planes_contain_the_separate_normalised_channels() {
        let protocol = ImageProtocol {
            image_size: 1,
            resize: Resize::Plain,
            filter: Filter::Bilinear,
            normalisation: Normalisation::Imagenet,
        };
        let mut planes = [0.0; 6];
        normalise(&[0, 128, 255, 255, 0, 128], &levels(&protocol), &mut planes);
        let expected = [-2.117_904, 2.248_908_3, 0.205_182_1, -2.035_714_3, 2.64, 0.426_492_37];
        for (value, expected) in planes.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-5, "{planes:?}");
        }
    }
}
