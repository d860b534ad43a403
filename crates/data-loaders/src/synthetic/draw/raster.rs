//! Renders a function of the plane to pixels: supersampling, sensor noise, and rounding.
//!
//! Every generator describes its image as `point -> colour` over the unit square (x to the right, y down) and leaves
//! antialiasing and noise to this module.

use glam::{Vec2, Vec3};

use crate::random::Stream;

/// Samples along each side of a pixel.
const SAMPLES: u32 = 2;

/// Camera gain and noise applied to a finished image.
pub(crate) struct Exposure {
    /// Factor applied to every value.
    gain: f32,
    /// Half width of the triangular noise added to each channel of each pixel.
    noise: f32,
}

impl Exposure {
    /// No gain and no noise.
    pub(crate) const EXACT: Self = Self { gain: 1.0, noise: 0.0 };

    /// Random gain around 1 and noise of up to the given width.
    pub(crate) fn random(stream: &mut Stream, noise: f32) -> Self {
        Self { gain: stream.uniform(0.8, 1.15), noise: stream.uniform(0.2, 1.0) * noise }
    }
}

/// Renders `shade` over the unit square as `image_size` x `image_size` RGB bytes, row by row, interleaved.
pub(crate) fn render(
    image_size: u32,
    exposure: &Exposure,
    stream: &mut Stream,
    mut shade: impl FnMut(Vec2) -> Vec3,
) -> Vec<u8> {
    let step = 1.0 / (image_size * SAMPLES) as f32;
    let mut pixels = Vec::with_capacity((image_size * image_size * 3) as usize);
    for row in 0..image_size {
        for column in 0..image_size {
            let mut sum = Vec3::ZERO;
            for sample in 0..SAMPLES * SAMPLES {
                let x = (column * SAMPLES + sample % SAMPLES) as f32 + 0.5;
                let y = (row * SAMPLES + sample / SAMPLES) as f32 + 0.5;
                sum += shade(Vec2::new(x, y) * step).clamp(Vec3::ZERO, Vec3::ONE);
            }
            let colour = sum * (exposure.gain / (SAMPLES * SAMPLES) as f32);
            pixels.extend(colour.to_array().map(|value| {
                let noise = match exposure.noise {
                    0.0 => 0.0,
                    width => stream.uniform(-width, width) * 0.5 + stream.uniform(-width, width) * 0.5,
                };
                ((value + noise) * 255.0).round().clamp(0.0, 255.0) as u8
            }));
        }
    }
    pixels
}

/// Rises smoothly from 0 at `low` to 1 at `high`.
pub(crate) fn smoothstep(low: f32, high: f32, value: f32) -> f32 {
    let t = ((value - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_split_by_an_edge_is_half_covered() {
        let mut stream = Stream::new("test", &[]);
        let pixels =
            render(3, &Exposure::EXACT, &mut stream, |p| if p.x < 0.5 { Vec3::ONE } else { Vec3::ZERO });
        assert_eq!(&pixels[..9], &[255, 255, 255, 128, 128, 128, 0, 0, 0]);
    }
}
