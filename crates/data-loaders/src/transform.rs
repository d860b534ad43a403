//! From a file's bytes to the network's input: decode to RGB, resize, normalise. Carries out an `ImageProtocol`.
//!
//! Conventions are PIL's: `convert("RGB")` (alpha dropped, not blended; EXIF rotation ignored) and antialiased resizing
//! with 8-bit results. JPEG decoders differ by a level or two per pixel, so parity with PIL is exact for PNG only.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{ImageFormat, RgbImage};

use crate::error::DataError;
use crate::protocol::{Filter, ImageProtocol, Resize};

/// The largest side of an input, in pixels; far above any use, it keeps a slip of the pen from filling the memory.
const LARGEST_SIDE: u32 = 4096;

/// Refuses a size that no image can have.
pub(crate) fn check_size(size: u32) -> Result<(), DataError> {
    if (1..=LARGEST_SIDE).contains(&size) { Ok(()) } else { Err(DataError::ImageSize { size }) }
}

/// Decodes an image file to RGB; the reason is a clause for an error message.
pub(crate) fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    let format = image::guess_format(bytes).map_err(|_| "it is not an image of a known format".to_owned())?;
    if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
        return Err("the JPEG data is cut short".to_owned());
    }
    let image = image::load_from_memory_with_format(bytes, format).map_err(|error| error.to_string())?;
    Ok(image.into_rgb8())
}

/// Whether a JPEG's entropy-coded data ends with the end-of-image marker (ITU T.81, B.1.1).
///
/// The decoder fills what is missing with grey and says nothing. Within entropy-coded data a byte FF is always followed
/// by 00 or a restart marker, so FF D9 after the first scan's header is the end; thumbnails lie in segments before it.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut position = 2;
    while let Some(&[0xFF, marker, high, low]) = bytes.get(position..position + 4) {
        position += 2 + usize::from(u16::from_be_bytes([high, low]));
        const START_OF_SCAN: u8 = 0xDA;
        if marker == START_OF_SCAN {
            return bytes
                .get(position..)
                .is_some_and(|data| data.windows(2).any(|pair| pair == [0xFF, 0xD9]));
        }
        // Markers may be padded with further bytes FF.
        while bytes.get(position..position + 2) == Some(&[0xFF, 0xFF]) {
            position += 1;
        }
    }
    false
}

/// Brings an image to the protocol's size; RGB bytes, channels together.
pub(crate) fn resize(image: &RgbImage, protocol: &ImageProtocol) -> Result<Vec<u8>, String> {
    let Resize::Plain = protocol.resize;
    let side = protocol.image_size;
    let filter = match protocol.filter {
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Bicubic => FilterType::CatmullRom,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3)
        .map_err(|error| error.to_string())?;
    // Width first, then height, as in PIL: the 8-bit result in between is clamped, so the order shows at hard edges.
    let mut narrowed = Image::new(side, image.height(), PixelType::U8x3);
    let mut target = Image::new(side, side, PixelType::U8x3);
    let mut resizer = Resizer::new();
    resizer.resize(&source, &mut narrowed, &options).map_err(|error| error.to_string())?;
    resizer.resize(&narrowed, &mut target, &options).map_err(|error| error.to_string())?;
    Ok(target.into_vec())
}

/// Writes RGB bytes (channels together) as normalised planes: `[3, side, side]` in `planes`.
pub(crate) fn normalise(bytes: &[u8], protocol: &ImageProtocol, planes: &mut [f32]) {
    let (mean, deviation) = protocol.normalisation.statistics();
    let area = bytes.len() / 3;
    for (channel, plane) in planes.chunks_exact_mut(area).enumerate() {
        for (value, pixel) in plane.iter_mut().zip(bytes.chunks_exact(3)) {
            *value = (f32::from(pixel[channel]) / 255.0 - mean[channel]) / deviation[channel];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Normalisation;

    fn jpeg() -> Vec<u8> {
        let picture = RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8 * 4, y as u8 * 5, (x ^ y) as u8]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_whole_jpeg_is_read_and_one_cut_anywhere_is_refused() {
        let whole = jpeg();
        assert_eq!(decode(&whole).unwrap().dimensions(), (64, 48));
        for length in (4..whole.len() - 1).step_by(7) {
            assert!(decode(&whole[..length]).is_err(), "cut at {length} of {}", whole.len());
        }
    }

    #[test]
    fn a_jpeg_with_an_end_marker_only_in_its_thumbnail_is_refused() {
        let whole = jpeg();
        let mut framed = vec![0xFF, 0xD8, 0xFF, 0xE1, 0x00, 0x06, 0xFF, 0xD9, 0xFF, 0xD9];
        framed.extend(&whole[2..whole.len() / 2]);
        assert!(decode(&framed).unwrap_err().contains("cut short"));
    }

    #[test]
    fn planes_hold_the_channels_apart_and_normalised() {
        let protocol = ImageProtocol {
            image_size: 1,
            resize: Resize::Plain,
            filter: Filter::Bilinear,
            normalisation: Normalisation::Imagenet,
        };
        let mut planes = [0.0; 6];
        normalise(&[0, 128, 255, 255, 0, 128], &protocol, &mut planes);
        let expected = [-2.117_904, 2.248_908_3, 0.205_182_1, -2.035_714_3, 2.64, 0.426_492_37];
        for (value, expected) in planes.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-5, "{planes:?}");
        }
    }
}
