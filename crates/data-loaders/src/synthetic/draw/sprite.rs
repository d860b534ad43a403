//! dSprites, re-implemented: `mini/dsprites_location` and `mini/dsprites_orientation`.
//!
//! Factors as defined by its authors (Matthey et al. 2017): shape (square, ellipse, heart), 6 scales linear in 0.5..=1,
//! 40 orientations linear in 0..=2 pi (so the first equals the last), 32 x and 32 y positions linear in 0..=1, white on
//! black. Labels as binned by VTAB: floor(factor / (values / 16)). The sprite always lies within the frame, which
//! determines the margin; the size of the largest sprite is our choice.

use std::f32::consts::TAU;

use glam::{Vec2, Vec3};

use crate::random::Stream;
use crate::registry::SpriteFactor;
use crate::split::Part;
use crate::synthetic::draw::outline::Pose;
use crate::synthetic::draw::raster::{Exposure, render};

const SHAPES: usize = 3;
const SCALES: usize = 6;
const ORIENTATIONS: usize = 40;
const POSITIONS: usize = 32;
/// Number of classes of either task.
pub(crate) const CLASSES: u32 = 16;
/// Distance from the centre of the largest sprite to its farthest point, in sides of the image.
const LARGEST: f32 = 0.2;
/// Distance of the first and last position from the edge: the largest sprite fits with some space left.
const MARGIN: f32 = 0.22;

impl SpriteFactor {
    /// Number of values of the predicted factor.
    pub(crate) fn values(self) -> usize {
        match self {
            Self::XPosition => POSITIONS,
            Self::Orientation => ORIENTATIONS,
        }
    }

    /// The class of a factor value, as binned by VTAB.
    pub(crate) fn label(self, value: usize) -> u32 {
        (value as f32 / (self.values() as f32 / CLASSES as f32)).floor() as u32
    }

    /// Draws a sprite with this value of the predicted factor; the other factors are uniform over the combinations of
    /// the part.
    pub(crate) fn draw(self, value: usize, part: Part, image_size: u32, stream: &mut Stream) -> Vec<u8> {
        loop {
            let mut sprite = Sprite::random(stream);
            match self {
                Self::XPosition => sprite.x = value,
                Self::Orientation => sprite.orientation = value,
            }
            if sprite.part() == part {
                return sprite.draw(image_size, stream);
            }
        }
    }
}

/// One combination of the factors, each as the index of its value.
#[derive(Debug, Clone, Copy)]
struct Sprite {
    shape: usize,
    scale: usize,
    orientation: usize,
    x: usize,
    y: usize,
}

impl Sprite {
    fn random(stream: &mut Stream) -> Self {
        Self {
            shape: stream.below(SHAPES),
            scale: stream.below(SCALES),
            orientation: stream.below(ORIENTATIONS),
            x: stream.below(POSITIONS),
            y: stream.below(POSITIONS),
        }
    }

    /// The part that owns this image, in proportions 8 to 1 to 1 as in VTAB. Orientations 0 and 39 give the same image,
    /// so they belong to the same part.
    fn part(&self) -> Part {
        let picture = [self.shape, self.scale, self.orientation % (ORIENTATIONS - 1), self.x, self.y];
        match Stream::new("dsprites split", &picture.map(|factor| factor as u64)).below(10) {
            0..8 => Part::Train,
            8 => Part::Val,
            _ => Part::Test,
        }
    }

    fn draw(&self, image_size: u32, stream: &mut Stream) -> Vec<u8> {
        let linear = |index: usize, values: usize| index as f32 / (values - 1) as f32;
        let position = Vec2::new(linear(self.x, POSITIONS), linear(self.y, POSITIONS));
        let pose = Pose {
            centre: Vec2::splat(MARGIN) + position * (1.0 - 2.0 * MARGIN),
            scale: LARGEST * (0.5 + 0.5 * linear(self.scale, SCALES)),
            rotation: linear(self.orientation, ORIENTATIONS) * TAU,
            stretch: 1.0,
        };
        render(image_size, &Exposure::EXACT, stream, |point| {
            if self.contains(pose.local(point)) { Vec3::ONE } else { Vec3::ZERO }
        })
    }

    fn contains(&self, point: Vec2) -> bool {
        match self.shape {
            0 => point.abs().max_element() < std::f32::consts::FRAC_1_SQRT_2,
            1 => (point * Vec2::new(1.0, 2.0)).length_squared() < 1.0,
            _ => {
                // The classic heart sextic, upright with y down, scaled into the unit disc.
                let p = point * Vec2::new(1.42, -1.42);
                let disc = p.length_squared() - 1.0;
                disc * disc * disc < p.x * p.x * p.y * p.y * p.y
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_two_positions() {
        let labels: Vec<u32> = (0..32).map(|value| SpriteFactor::XPosition.label(value)).collect();
        assert_eq!(labels, (0..32).map(|value| value / 2).collect::<Vec<_>>());
    }

    #[test]
    fn classes_have_alternately_three_and_two_orientations() {
        // Computed by hand from floor(value / 2.5).
        let expected = [
            0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6, 6, 7, 7, 8, 8, 8, 9, 9, 10, 10, 10, 11, 11,
            12, 12, 12, 13, 13, 14, 14, 14, 15, 15,
        ];
        let labels: Vec<u32> = (0..40).map(|value| SpriteFactor::Orientation.label(value)).collect();
        assert_eq!(labels, expected);
    }

    #[test]
    fn every_sprite_lies_within_the_frame_and_moves_right_with_x() {
        for shape in 0..3 {
            for orientation in 0..40 {
                let mean = |x: usize| {
                    let sprite = Sprite { shape, scale: 5, orientation, x, y: 31 - x };
                    let pixels = sprite.draw(64, &mut Stream::new("test", &[]));
                    let lit = |row: usize, column: usize| f32::from(pixels[(row * 64 + column) * 3]);
                    assert!((0..64).all(|i| lit(0, i) + lit(63, i) + lit(i, 0) + lit(i, 63) == 0.0));
                    let (mut mass, mut moment) = (0.0, 0.0);
                    for index in 0..64 * 64 {
                        mass += lit(index / 64, index % 64);
                        moment += lit(index / 64, index % 64) * (index % 64) as f32;
                    }
                    moment / mass
                };
                // The first and last positions are 0.56 of the frame apart.
                assert!((mean(31) - mean(0) - 0.56 * 64.0).abs() < 0.5);
            }
        }
    }

    #[test]
    fn the_first_and_last_orientation_give_the_same_image_in_the_same_split() {
        let first = Sprite { shape: 2, scale: 3, orientation: 0, x: 4, y: 9 };
        let last = Sprite { orientation: 39, ..first };
        assert_eq!(first.part(), last.part());
        let stream = || Stream::new("test", &[]);
        assert_eq!(first.draw(32, &mut stream()), last.draw(32, &mut stream()));
    }
}
