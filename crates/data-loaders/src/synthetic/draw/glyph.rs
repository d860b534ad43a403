//! House numbers: the synthetic stand-in of SVHN. A digit in the middle with parts of other digits at its sides, like a
//! crop of a longer number; digits are strokes (polylines), so their weight, slant and width vary freely.

use glam::Vec2;

use crate::random::Stream;
use crate::synthetic::draw::choices::Choices as _;
use crate::synthetic::draw::outline::Pose;
use crate::synthetic::draw::paint::Clutter;
use crate::synthetic::draw::raster::{Exposure, render, smoothstep};

/// Number of classes: the digit itself is the label.
pub(crate) const CLASSES: u32 = 10;

/// Strokes of the digits 0 to 9 in a box of half height 1 and half width 0.6; y points down.
const DIGITS: [&[(f32, f32)]; 10] = [
    &[
        (0.0, -1.0),
        (-0.45, -0.7),
        (-0.55, 0.0),
        (-0.45, 0.7),
        (0.0, 1.0),
        (0.45, 0.7),
        (0.55, 0.0),
        (0.45, -0.7),
        (0.0, -1.0),
    ],
    &[(-0.35, -0.6), (0.1, -1.0), (0.1, 1.0)],
    &[(-0.5, -0.6), (-0.3, -0.92), (0.1, -1.0), (0.45, -0.75), (0.45, -0.35), (-0.5, 1.0), (0.55, 1.0)],
    &[
        (-0.5, -0.8),
        (-0.1, -1.0),
        (0.4, -0.8),
        (0.4, -0.3),
        (-0.1, -0.05),
        (0.45, 0.2),
        (0.5, 0.65),
        (0.1, 1.0),
        (-0.3, 0.95),
        (-0.5, 0.75),
    ],
    &[(0.3, 1.0), (0.3, -1.0), (-0.55, 0.4), (0.6, 0.4)],
    &[
        (0.5, -1.0),
        (-0.4, -1.0),
        (-0.45, -0.1),
        (0.1, -0.25),
        (0.5, 0.1),
        (0.5, 0.6),
        (0.1, 1.0),
        (-0.5, 0.8),
    ],
    &[
        (0.4, -0.9),
        (0.0, -1.0),
        (-0.4, -0.5),
        (-0.5, 0.3),
        (-0.3, 0.9),
        (0.1, 1.0),
        (0.5, 0.7),
        (0.45, 0.15),
        (0.0, -0.05),
        (-0.45, 0.25),
    ],
    &[(-0.55, -1.0), (0.55, -1.0), (-0.1, 1.0)],
    &[
        (0.0, 0.0),
        (-0.4, -0.25),
        (-0.4, -0.75),
        (0.0, -1.0),
        (0.4, -0.75),
        (0.4, -0.25),
        (-0.45, 0.35),
        (-0.45, 0.75),
        (0.0, 1.0),
        (0.45, 0.75),
        (0.45, 0.35),
        (0.0, 0.0),
    ],
    &[
        (0.45, -0.25),
        (0.0, 0.05),
        (-0.45, -0.15),
        (-0.5, -0.7),
        (-0.1, -1.0),
        (0.3, -0.9),
        (0.5, -0.3),
        (0.4, 0.5),
        (0.0, 1.0),
        (-0.4, 0.9),
    ],
];

/// Distance of a point to a polyline.
fn distance(strokes: &[(f32, f32)], point: Vec2) -> f32 {
    let squared = strokes.windows(2).map(|ends| {
        let (start, end) = (Vec2::from(ends[0]), Vec2::from(ends[1]));
        let along = end - start;
        let share = ((point - start).dot(along) / along.length_squared()).clamp(0.0, 1.0);
        (start + along * share).distance_squared(point)
    });
    squared.fold(f32::MAX, f32::min).sqrt()
}

/// Draws the digit between two others over a cluttered plate.
pub(crate) fn draw(digit: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    draw_among(digit, [0.7; 2], image_size, stream)
}

/// Draws only the digit.
pub(crate) fn draw_alone(digit: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    draw_among(digit, [0.0; 2], image_size, stream)
}

/// Draws the digit with a digit on either side, each with its own probability.
fn draw_among(digit: usize, sides: [f32; 2], image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let scale = stream.uniform(0.26, 0.4);
    let rotation = stream.uniform(-0.25, 0.25);
    let stretch = stream.uniform(0.8, 1.25);
    let centre = stream.point(0.44, 0.56);
    let step = Vec2::from_angle(rotation) * scale * stream.uniform(1.6, 2.0);
    let shown = sides.map(|probability| stream.chance(probability));
    let neighbours = shown.map(|shown| shown.then(|| stream.below(10)));
    let figures: Vec<(usize, Pose)> = [(Some(digit), 0.0), (neighbours[0], -1.0), (neighbours[1], 1.0)]
        .into_iter()
        .filter_map(|(digit, side)| {
            Some((digit?, Pose { centre: centre + step * side, scale, rotation, stretch }))
        })
        .collect();
    let slant = stream.uniform(-0.25, 0.25);
    let weight = stream.uniform(0.13, 0.24);
    let clutter = Clutter::random(stream);
    let plate = stream.colour((0.0, 0.7), (0.1, 0.95));
    let mut ink = stream.colour((0.0, 0.9), (0.1, 1.0));
    if (ink - plate).abs().element_sum() < 0.6 {
        ink = glam::Vec3::ONE - plate;
    }
    let opacity = stream.uniform(0.55, 0.9);
    let exposure = Exposure::random(stream, 0.16);
    render(image_size, &exposure, stream, |point| {
        let ground = clutter.colour(point).lerp(plate, opacity);
        let covered = figures.iter().map(|(digit, pose)| {
            let mut local = pose.local(point);
            local.x += slant * local.y;
            if local.x.abs() > 0.9 || local.y.abs() > 1.3 {
                return 0.0;
            }
            smoothstep(weight + 0.05, weight - 0.05, distance(DIGITS[*digit], local))
        });
        ground.lerp(ink, covered.fold(0.0, f32::max))
    })
}
