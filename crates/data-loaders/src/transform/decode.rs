//! Decodes image files to RGB like PIL's `convert("RGB")`, torchvision's default loader.
//!
//! Alpha is dropped, not blended; EXIF rotation is ignored; 16-bit colour keeps the upper eight bits, and 16-bit grey
//! is clipped at 255. JPEG is decoded by a port of libjpeg-turbo, because other decoders differ from PIL's by a level
//! or two in a few per cent of the pixels.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};

use crate::io::contained::contained;

/// Maximum number of pixels of an image; the largest in the known datasets has 18 million.
pub(crate) const MAX_PIXELS: u64 = 1 << 26;
/// Maximum number of scans in a JPEG: progressive ones have about ten, and each takes as long as decoding the whole
/// image.
const MAX_SCANS: usize = 128;

/// Decodes an image file to RGB; the error is a clause. The size is taken from the decoder's own header before anything
/// is decoded.
pub(crate) fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    let format = image::guess_format(bytes).map_err(|_| "it is not an image in a known format".to_owned())?;
    contained(|| if format == ImageFormat::Jpeg { decode_jpeg(bytes) } else { decode_other(bytes, format) })
}

/// Rejects a size that is invalid or larger than in any dataset: a few bytes can claim billions of pixels.
pub(crate) fn check_size(width: u64, height: u64) -> Result<(), String> {
    match width.checked_mul(height) {
        Some(0) => Err(format!("it claims {width} x {height} pixels")),
        Some(1..=MAX_PIXELS) => Ok(()),
        _ => Err(format!("it claims {width} x {height} pixels; at most {MAX_PIXELS} are supported")),
    }
}

fn decode_other(bytes: &[u8], format: ImageFormat) -> Result<RgbImage, String> {
    let decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder();
    let decoder = decoder.map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into())?;
    Ok(match DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())? {
        DynamicImage::ImageRgb8(image) => image,
        DynamicImage::ImageLuma16(image) => from_pixels(&image, |[grey]| [grey.min(255) as u8; 3]),
        DynamicImage::ImageLumaA16(image) => from_pixels(&image, |[grey, _]| [(grey >> 8) as u8; 3]),
        DynamicImage::ImageRgb16(image) => from_pixels(&image, |rgb| rgb.map(|value| (value >> 8) as u8)),
        DynamicImage::ImageRgba16(image) => {
            from_pixels(&image, |[red, green, blue, _]| [red, green, blue].map(|value| (value >> 8) as u8))
        }
        other => other.into_rgb8(),
    })
}

/// Converts pixels with 16 bits per channel to RGB.
fn from_pixels<P, const CHANNELS: usize>(
    image: &image::ImageBuffer<P, Vec<u16>>,
    rgb: impl Fn([u16; CHANNELS]) -> [u8; 3],
) -> RgbImage
where
    P: image::Pixel<Subpixel = u16>,
{
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let channels = image.get_pixel(x, y).channels();
        image::Rgb(rgb(std::array::from_fn(|channel| channels[channel])))
    })
}

/// Like libjpeg, ignores damage inside the data, but not missing data at its end.
fn decode_jpeg(bytes: &[u8]) -> Result<RgbImage, String> {
    if !jpeg_is_complete(bytes) {
        return Err("the JPEG data is truncated".to_owned());
    }
    let limits = DecodeLimits { max_pixels: MAX_PIXELS, max_scans: MAX_SCANS, ..DecodeLimits::default() };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(|error| error.to_string())?;
    let header = decoder.header();
    // A height of zero means that it follows the data, which this decoder does not support.
    check_size(header.width() as u64, header.height() as u64)?;
    if header.precision != 8 {
        return Err(format!("it has {} bits per channel; only 8-bit JPEG is supported", header.precision));
    }
    let cmyk = header.components.len() == 4;
    decoder.set_output_format(if cmyk { PixelFormat::Cmyk } else { PixelFormat::Rgb });
    decoder.set_lenient(true);
    let image = decoder.decode_image().map_err(|error| error.to_string())?;
    let pixels = if cmyk { cmyk_to_rgb(&image.data) } else { image.data };
    let size = |side: usize| u32::try_from(side).map_err(|error| error.to_string());
    RgbImage::from_raw(size(image.width)?, size(image.height)?, pixels)
        .ok_or_else(|| "its size differs from its header's".to_owned())
}

/// Converts inverted CMYK to RGB, as written by Adobe and assumed by PIL, with or without a marker.
fn cmyk_to_rgb(cmyk: &[u8]) -> Vec<u8> {
    let divided = |product: u32| (product + 128 + ((product + 128) >> 8)) >> 8;
    let pixel = |cmyk: &[u8; 4]| {
        let [.., key] = *cmyk;
        let channel = |ink: u8| {
            let absorbed = divided(u32::from(255 - ink) * u32::from(key));
            (u32::from(key) - absorbed) as u8
        };
        [channel(cmyk[0]), channel(cmyk[1]), channel(cmyk[2])]
    };
    cmyk.as_chunks().0.iter().flat_map(pixel).collect()
}

/// Whether a JPEG's entropy-coded data ends with the end-of-image marker (ITU T.81, B.1.1).
///
/// The decoder fills what is missing with grey. Within entropy-coded data a byte FF is always followed
/// by 00 or a restart marker, so FF D9 after the first scan's header is the end; thumbnails are in segments before it.
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
        // Markers may be padded with extra FF bytes.
        while bytes.get(position..position + 2) == Some(&[0xFF, 0xFF]) {
            position += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg() -> Vec<u8> {
        let picture = RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8 * 4, y as u8 * 5, (x ^ y) as u8]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_complete_jpeg_is_decoded_and_a_truncated_one_is_rejected() {
        let whole = jpeg();
        assert_eq!(decode(&whole).unwrap().dimensions(), (64, 48));
        for length in (4..whole.len() - 1).step_by(7) {
            assert!(decode(&whole[..length]).is_err(), "truncated at {length} of {}", whole.len());
        }
    }

    /// A JPEG whose frame header claims this size.
    fn claiming(mut bytes: Vec<u8>, [width, height]: [u16; 2]) -> Vec<u8> {
        let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
        bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
        bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
        bytes
    }

    #[test]
    fn a_jpeg_without_height_or_width_is_rejected_in_grey_rgb_and_cmyk() {
        let grey = include_bytes!("../../tests/fixtures/pil/grey_jpeg.jpg").to_vec();
        let cmyk = include_bytes!("../../tests/fixtures/pil/cmyk.jpg").to_vec();
        for whole in [grey, jpeg(), cmyk] {
            for size in [[64, 0], [0, 48], [0, 0]] {
                let reason = decode(&claiming(whole.clone(), size)).unwrap_err();
                assert!(
                    !reason.contains("inconsistent"),
                    "it must be rejected by its header, not by a panic: {reason}"
                );
            }
            let reason = decode(&claiming(whole, [64, 0])).unwrap_err();
            assert_eq!(reason, "it claims 64 x 0 pixels");
        }
    }

    #[test]
    fn the_pixel_limit_applies_whatever_segment_precedes_the_frame() {
        let whole = claiming(jpeg(), [9000, 9000]);
        const ARITHMETIC_CODING: &[u8] = &[0xFF, 0xCC, 0, 4, 0, 0x10];
        const NUMBER_OF_LINES: &[u8] = &[0xFF, 0xDC, 0, 4, 0x23, 0x28];
        for segment in [&[][..], ARITHMETIC_CODING, NUMBER_OF_LINES] {
            let bytes = [&whole[..2], segment, &whole[2..]].concat();
            let reason = decode(&bytes).unwrap_err();
            assert_eq!(reason, "it claims 9000 x 9000 pixels; at most 67108864 are supported");
        }
    }

    #[test]
    fn a_twelve_bit_jpeg_is_rejected_as_in_pil() {
        let mut bytes = jpeg();
        let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
        bytes[frame + 4] = 12;
        assert!(decode(&bytes).unwrap_err().contains("12 bits"));
    }

    #[test]
    fn a_jpeg_with_an_end_marker_only_in_its_thumbnail_is_rejected() {
        let whole = jpeg();
        let mut framed = vec![0xFF, 0xD8, 0xFF, 0xE1, 0x00, 0x06, 0xFF, 0xD9, 0xFF, 0xD9];
        framed.extend(&whole[2..whole.len() / 2]);
        assert!(decode(&framed).unwrap_err().contains("truncated"));
    }
}
