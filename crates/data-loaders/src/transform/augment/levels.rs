//! Per-channel level operations, as in PIL's `ImageOps`: tables of 256 levels.

use image::RgbImage;

type Table = [u8; 256];

/// Applies one table to all channels.
pub(super) fn map(image: &mut RgbImage, level: impl Fn(u8) -> u8) {
    let table: Table = std::array::from_fn(|index| level(index as u8));
    image.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

/// Stretches each channel's levels to 0 to 255.
pub(super) fn autocontrast(image: &mut RgbImage) {
    by_channel(image, |histogram| {
        let lowest = histogram.iter().position(|count| *count > 0)?;
        let highest = histogram.iter().rposition(|count| *count > 0)?;
        if highest <= lowest {
            return None;
        }
        let scale = 255.0 / (highest - lowest) as f64;
        let offset = -(lowest as f64) * scale;
        Some(std::array::from_fn(|level| (level as f64 * scale + offset) as u8))
    });
}

/// Equalises each channel's histogram.
pub(super) fn equalize(image: &mut RgbImage) {
    by_channel(image, |histogram| {
        let last = histogram.iter().rev().find(|count| **count > 0)?;
        let step = (histogram.iter().sum::<usize>() - last) / 255;
        if step == 0 {
            return None;
        }
        let mut below = step / 2;
        Some(histogram.map(|count| {
            let level = below / step;
            below += count;
            level.min(255) as u8
        }))
    });
}

/// Builds a table from each channel's histogram, if it is to be changed, and applies it.
fn by_channel(image: &mut RgbImage, table: impl Fn([usize; 256]) -> Option<Table>) {
    for channel in 0..3 {
        let mut histogram = [0; 256];
        image.pixels().for_each(|pixel| histogram[usize::from(pixel.0[channel])] += 1);
        if let Some(table) = table(histogram) {
            image.pixels_mut().for_each(|pixel| pixel.0[channel] = table[usize::from(pixel.0[channel])]);
        }
    }
}
