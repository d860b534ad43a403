//! Colour, contrast, brightness and sharpness, as in PIL's `ImageEnhance`: a blend of the image and a degenerate image
//! without the property, with a factor that may lie outside 0 to 1.

use image::{Rgb, RgbImage};

/// Blends with the greyscale image.
pub(super) fn colour(image: &mut RgbImage, factor: f64) {
    for pixel in image.pixels_mut() {
        let grey = luma(*pixel);
        *pixel = blend(Rgb([grey; 3]), *pixel, factor);
    }
}

/// Blends with the mean grey.
pub(super) fn contrast(image: &mut RgbImage, factor: f64) {
    let sum: u64 = image.pixels().map(|pixel| u64::from(luma(*pixel))).sum();
    let pixels = f64::from(image.width()) * f64::from(image.height());
    let mean = Rgb([(sum as f64 / pixels + 0.5) as u8; 3]);
    image.pixels_mut().for_each(|pixel| *pixel = blend(mean, *pixel, factor));
}

/// Blends with black.
pub(super) fn brightness(image: &mut RgbImage, factor: f64) {
    image.pixels_mut().for_each(|pixel| *pixel = blend(Rgb([0; 3]), *pixel, factor));
}

/// Blends with the image smoothed by the kernel 1 1 1, 1 5 1, 1 1 1; the border is not smoothed.
pub(super) fn sharpness(image: &mut RgbImage, factor: f64) {
    const KERNEL: [[f32; 3]; 3] = [[1.0 / 13.0; 3], [1.0 / 13.0, 5.0 / 13.0, 1.0 / 13.0], [1.0 / 13.0; 3]];
    let source = image.clone();
    let (width, height) = source.dimensions();
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let smooth = std::array::from_fn(|channel| {
                let at = |x: u32, y: u32| f32::from(source.get_pixel(x, y).0[channel]);
                // The last row first, in PIL's summation order.
                let row = |y: u32, weights: &[f32; 3]| {
                    at(x - 1, y) * weights[0] + at(x, y) * weights[1] + at(x + 1, y) * weights[2]
                };
                (0.5 + row(y + 1, &KERNEL[0]) + row(y, &KERNEL[1]) + row(y - 1, &KERNEL[2])) as u8
            });
            image.put_pixel(x, y, blend(Rgb(smooth), *source.get_pixel(x, y), factor));
        }
    }
}

/// PIL's greyscale conversion: ITU-R 601-2 in 16-bit fixed point.
fn luma(Rgb([red, green, blue]): Rgb<u8>) -> u8 {
    ((u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000) >> 16) as u8
}

/// From `without` at a factor of 0 to `with` at 1, and beyond; truncated to integer levels.
fn blend(Rgb(without): Rgb<u8>, Rgb(with): Rgb<u8>, factor: f64) -> Rgb<u8> {
    let factor = factor as f32;
    Rgb(std::array::from_fn(|channel| {
        let (without, with) = (f32::from(without[channel]), f32::from(with[channel]));
        (without + factor * (with - without)) as u8
    }))
}
