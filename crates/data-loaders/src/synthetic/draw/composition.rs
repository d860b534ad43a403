//! Figures on a background: the synthetic stand-ins of the natural datasets of objects and places.
//!
//! A class is a combination of factors (outline x fill, petals x centre, ears x coat, skyline x ground); everything
//! else (colours, pose, light, clutter) varies within it. The portrayal determines the factors.

use std::f32::consts::PI;

use glam::{Vec2, Vec3};

use crate::random::Stream;
use crate::registry::Portrayal;
use crate::synthetic::draw::choices::Choices as _;
use crate::synthetic::draw::noise::{fractal_noise, value_noise};
use crate::synthetic::draw::outline::{Outline, Pose};
use crate::synthetic::draw::paint::{Clutter, Paint, Pattern};
use crate::synthetic::draw::raster::{Exposure, render, smoothstep};

impl Portrayal {
    /// Number of classes.
    pub(crate) fn classes(self) -> u32 {
        match self {
            Self::Object | Self::Silhouette => 20,
            Self::Flower => 16,
            Self::Animal | Self::Place => 12,
        }
    }

    /// Draws one image of the class.
    pub(crate) fn draw(self, class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
        match self {
            Self::Object => {
                let fill = OBJECT_FILLS[class % 4];
                thing(OBJECT_OUTLINES[class / 4], fill, (0.24, 0.4), image_size, stream)
            }
            Self::Silhouette => {
                let fill = stream.pick(&[Pattern::Plain, Pattern::Banded, Pattern::Blotchy, Pattern::Meshed]);
                thing(class, fill, (0.34, 0.48), image_size, stream)
            }
            Self::Flower => flower(class, image_size, stream),
            Self::Animal => animal(class, image_size, stream),
            Self::Place => place(class, image_size, stream),
        }
    }
}

/// Symmetry and exponents of the superformula for the twenty silhouettes.
const SILHOUETTES: [(f32, f32, f32, f32); 20] = [
    (4.0, 2.0, 2.0, 2.0),    // disc
    (4.0, 20.0, 20.0, 20.0), // square
    (3.0, 4.5, 10.0, 10.0),  // triangle
    (5.0, 6.0, 9.0, 9.0),    // blunt star
    (3.0, 0.5, 0.5, 0.5),    // hollow triangle
    (4.0, 0.5, 0.5, 0.5),    // astroid
    (5.0, 0.55, 0.9, 0.9),   // five-pointed star
    (6.0, 0.5, 0.9, 0.9),    // six-pointed star
    (8.0, 0.7, 0.9, 0.9),    // eight-pointed star
    (2.0, 0.6, 1.0, 1.0),    // lens
    (2.0, 1.0, 4.0, 8.0),    // capsule
    (1.0, 0.6, 0.6, 0.6),    // drop
    (2.0, 1.0, 6.0, 6.0),    // propeller
    (3.0, 2.0, 6.0, 6.0),    // dented triangle
    (4.0, 2.0, 8.0, 8.0),    // four-armed star
    (5.0, 1.5, 6.0, 6.0),    // starfish
    (7.0, 3.0, 12.0, 4.0),   // seven-toothed wheel
    (12.0, 3.0, 9.0, 9.0),   // urchin
    (2.0, 0.3, 0.9, 0.9),    // needle
    (3.0, 1.0, 1.6, 0.8),    // pick
];

/// Five silhouettes that are easy to distinguish at small size.
const OBJECT_OUTLINES: [usize; 5] = [0, 1, 4, 6, 9];
const OBJECT_FILLS: [Pattern; 4] = [Pattern::Plain, Pattern::Banded, Pattern::Chequered, Pattern::Dotted];

/// A shaded figure on clutter, with distractor discs in the background.
fn thing(outline: usize, fill: Pattern, scale: (f32, f32), image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let (symmetry, n1, n2, n3) = SILHOUETTES[outline];
    let outline = Outline::superformula(symmetry, n1, n2, n3);
    let scale = stream.uniform(scale.0, scale.1);
    let pose = Pose {
        centre: stream.point(scale * 0.8, 1.0 - scale * 0.8),
        scale,
        rotation: stream.angle(),
        stretch: stream.uniform(0.8, 1.25),
    };
    let frequency = stream.uniform(4.0, 6.0);
    let paint = Paint::random(stream, fill, frequency);
    let light = Vec2::from_angle(stream.angle()) * 0.3;
    let clutter = Clutter::random(stream);
    let distractors: [(Vec2, f32, Vec3); 3] = std::array::from_fn(|_| {
        (stream.point(0.0, 1.0), stream.uniform(0.04, 0.1), stream.colour((0.2, 0.9), (0.2, 0.9)))
    });
    let exposure = Exposure::random(stream, 0.12);
    render(image_size, &exposure, stream, |point| {
        let local = pose.local(point);
        if outline.contains(local) {
            return paint.colour(local) * (0.9 + light.dot(local));
        }
        let distractor = distractors.iter().find(|(centre, radius, _)| centre.distance(point) < *radius);
        distractor.map_or_else(|| clutter.colour(point), |(.., colour)| *colour)
    })
}

/// A flower with 4, 5, 6 or 8 petals, round or pointed, with a solid or a ringed centre.
fn flower(class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let petals = [4.0, 5.0, 6.0, 8.0][class / 4];
    let pointed = class / 2 % 2 == 1;
    let ringed = class % 2 == 1;
    let waist = stream.uniform(0.3, 0.4);
    let outline = Outline::from_polar(|angle| {
        let lobe = (petals * angle / 2.0).cos().abs();
        waist + (1.0 - waist) * if pointed { lobe.powf(3.0) } else { lobe.powf(0.5) }
    });
    let scale = stream.uniform(0.34, 0.47);
    let pose = Pose {
        centre: stream.point(0.4, 0.6),
        scale,
        rotation: stream.angle(),
        stretch: stream.uniform(0.8, 1.25),
    };
    let petal = stream.colour((0.3, 1.0), (0.6, 1.0));
    let centre = stream.near(Vec3::new(0.85, 0.7, 0.15), 0.15);
    let dark = centre * 0.25;
    let leaf = [stream.near(Vec3::new(0.1, 0.35, 0.1), 0.1), stream.near(Vec3::new(0.3, 0.55, 0.2), 0.12)];
    let (seed, size) = (stream.seed(), stream.uniform(0.24, 0.32));
    let exposure = Exposure::random(stream, 0.1);
    render(image_size, &exposure, stream, |point| {
        let local = pose.local(point);
        let radius = local.length();
        if radius < size {
            return if ringed && radius < size * 0.62 { dark } else { centre };
        }
        let depth = outline.depth(local);
        if depth < 1.0 {
            return petal * (0.7 + 0.3 * (1.0 - radius)) * (0.85 + 0.15 * smoothstep(1.0, 0.7, depth));
        }
        leaf[0].lerp(leaf[1], smoothstep(0.3, 0.7, fractal_noise(point * 6.0, seed)))
    })
}

/// A head with pointed, round or hanging ears and a plain, banded, spotted or two-coloured coat.
fn animal(class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let (ears, coat) = (class / 4, class % 4);
    let pattern = [Pattern::Plain, Pattern::Banded, Pattern::Dotted, Pattern::Plain][coat];
    let mut paint = Paint::random(stream, pattern, 4.5);
    paint.colours = [stream.near(Vec3::new(0.75, 0.55, 0.35), 0.22), stream.near(Vec3::splat(0.18), 0.12)];
    let split = if coat == 3 { stream.uniform(-0.25, 0.25) } else { -9.0 };
    let scale = stream.uniform(0.3, 0.4);
    let pose = Pose {
        centre: Vec2::new(stream.uniform(0.4, 0.6), stream.uniform(0.5, 0.62)),
        scale,
        rotation: stream.uniform(-0.4, 0.4),
        stretch: stream.uniform(0.85, 1.2),
    };
    let clutter = Clutter::random(stream);
    let exposure = Exposure::random(stream, 0.1);
    let snout = stream.uniform(0.25, 0.4);
    render(image_size, &exposure, stream, |point| {
        let local = pose.local(point);
        let side = Vec2::new(local.x.abs(), local.y);
        let face = local.length() < 0.85;
        if face && ((side - Vec2::new(0.33, -0.15)).length() < 0.13 || local.distance(Vec2::Y * snout) < 0.14)
        {
            return Vec3::splat(0.05);
        }
        let ear = match ears {
            0 => side.y < -0.35 && side.y > -1.35 && (side.x - 0.5).abs() < 0.35 * (side.y + 1.35),
            1 => side.distance(Vec2::new(0.7, -0.75)) < 0.36,
            _ => ((side - Vec2::new(0.95, 0.15)) * Vec2::new(1.0, 0.42)).length() < 0.26,
        };
        if ear && !(face && ears != 2) {
            return paint.colours[0] * 0.62;
        }
        if !face {
            return clutter.colour(point);
        }
        if local.x < split { paint.colours[1] } else { paint.colour(local) }
    })
}

/// A landscape with a flat, ridged, built or wooded skyline above water, converging rows, or a paved ground.
fn place(class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let (skyline, ground) = (class / 3, class % 3);
    let horizon = stream.uniform(0.42, 0.6);
    let vanishing = stream.uniform(0.3, 0.7);
    let sky = [stream.colour((0.05, 0.6), (0.6, 1.0)), stream.colour((0.0, 0.4), (0.7, 1.0))];
    let far = stream.colour((0.1, 0.5), (0.15, 0.55));
    let soil = Paint { rotation: 0.0, warp: 0.0, ..Paint::random(stream, Pattern::Banded, 1.0) };
    let (seed, pitch, height) = (stream.seed(), stream.uniform(5.0, 8.0), stream.uniform(0.2, 0.34));
    let exposure = Exposure::random(stream, 0.1);
    let above = |x: f32| match skyline {
        0 => 0.0,
        1 => height * (0.3 + value_noise(Vec2::new(x * 3.5, 0.5), seed)),
        2 => height * (0.2 + 1.3 * value_noise(Vec2::new((x * pitch).floor() * 7.3, 0.0), seed)),
        _ if (x * pitch * 1.4 + 0.6 * value_noise(Vec2::new(x * 9.0, 3.0), seed)).fract() < 0.42 => 1.0,
        _ => 0.25 * height,
    };
    render(image_size, &exposure, stream, |point| {
        let depth = point.y - horizon;
        if depth < 0.0 {
            let share = (point.y / horizon).powf(1.5);
            let solid = -depth < above(point.x);
            let window = skyline == 2 && (point.y * 28.0).sin() * (point.x * 60.0).sin() > 0.35;
            let light = if window { 1.7 } else { 1.0 };
            return if solid { far * light } else { sky[0].lerp(sky[1], share) };
        }
        let distance = 0.12 / (depth + 0.03);
        let across = (point.x - vanishing) * distance * 9.0;
        let share = match ground {
            0 => 0.5 + 0.5 * (distance * 14.0 + 2.0 * value_noise(point * 7.0, seed)).sin(),
            1 => smoothstep(-0.2, 0.2, (across * PI).sin()),
            _ => smoothstep(-0.2, 0.2, (across * PI).sin() * (distance * 9.0 * PI).sin()),
        };
        let haze = smoothstep(0.0, 0.1, depth);
        far.lerp(soil.colours[0].lerp(soil.colours[1], share), haze)
    })
}
