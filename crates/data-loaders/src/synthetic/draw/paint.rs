//! The fill of a figure or background: two colours and the pattern that mixes them.
//!
//! Used by the composition and texture generators; the patterns are also the classes of `mini/dtd`.

use std::f32::consts::{PI, TAU};

use glam::{Vec2, Vec3};

use crate::random::Stream;
use crate::synthetic::draw::choices::Choices as _;
use crate::synthetic::draw::noise::{cell, fractal_noise, value_noise};
use crate::synthetic::draw::raster::smoothstep;

/// A function that gives the share of the second colour at each point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// The first colour everywhere.
    Plain,
    /// Parallel bands.
    Banded,
    /// A checkerboard.
    Chequered,
    /// Dots on a square grid.
    Dotted,
    /// Bands that turn back and forth.
    Zigzagged,
    /// Soft blotches.
    Blotchy,
    /// Thin bright veins, as in marble.
    Veined,
    /// Thin dark borders of irregular cells.
    Cracked,
    /// Irregular cells, each with its own tone.
    Pebbled,
    /// Rings around a centre.
    Concentric,
    /// Threads going over and under.
    Woven,
    /// Thin lines of a square mesh.
    Meshed,
    /// Courses of bricks.
    Bricked,
}

impl Pattern {
    /// The classes of `mini/dtd`.
    pub(crate) const MATERIALS: [Self; 12] = [
        Self::Banded,
        Self::Chequered,
        Self::Dotted,
        Self::Zigzagged,
        Self::Blotchy,
        Self::Veined,
        Self::Cracked,
        Self::Pebbled,
        Self::Concentric,
        Self::Woven,
        Self::Bricked,
        Self::Meshed,
    ];

    /// The share of the second colour at a point, in 0..=1; features have a size of about one unit.
    fn share(self, point: Vec2, seed: u32) -> f32 {
        let edge = |value: f32| smoothstep(-0.15, 0.15, value);
        let triangle = |value: f32| (value.rem_euclid(1.0) - 0.5).abs() * 2.0;
        match self {
            Self::Plain => 0.0,
            Self::Banded => edge((point.x * PI).sin()),
            Self::Chequered => edge((point.x * PI).sin() * (point.y * PI).sin() * 2.0),
            Self::Dotted => edge(0.33 - (point - point.floor() - 0.5).length()),
            Self::Zigzagged => edge(((point.x + triangle(point.y * 0.5)) * PI).sin()),
            Self::Blotchy => smoothstep(0.35, 0.65, fractal_noise(point * 0.8, seed)),
            Self::Veined => {
                let warp = 3.0 * fractal_noise(point * 0.6, seed);
                1.0 - smoothstep(0.0, 0.35, ((point.x * 0.4 + warp) * PI).sin().abs())
            }
            Self::Cracked => 1.0 - smoothstep(0.04, 0.16, cell(point * 0.8, 1.0, seed).margin),
            Self::Pebbled => {
                let cell = cell(point * 0.8, 0.9, seed);
                cell.value * smoothstep(0.75, 0.3, cell.distance)
            }
            Self::Concentric => edge((point.length() * PI * 1.2).sin()),
            Self::Woven => {
                let over = (point.x.floor() + point.y.floor()).rem_euclid(2.0) < 1.0;
                let across = if over { point.x.fract() } else { point.y.fract() };
                (across.rem_euclid(1.0) * PI).sin() * if over { 1.0 } else { 0.55 }
            }
            Self::Meshed => {
                let line = |value: f32| smoothstep(0.18, 0.1, (value.rem_euclid(1.0) - 0.5).abs());
                line(point.x).max(line(point.y))
            }
            Self::Bricked => {
                let course = point.y.floor();
                let along = (point.x * 0.5 + 0.5 * course.rem_euclid(2.0)).rem_euclid(1.0);
                let joint = (along.min(1.0 - along) * 2.0).min(0.5 - (point.y.fract().abs() - 0.5).abs());
                smoothstep(0.14, 0.06, joint)
            }
        }
    }
}

/// A pattern with its colours and pose.
#[derive(Clone, Copy)]
pub(crate) struct Paint {
    /// The pattern.
    pub(crate) pattern: Pattern,
    /// The two colours.
    pub(crate) colours: [Vec3; 2],
    /// Features per unit length.
    pub(crate) frequency: f32,
    /// Rotation of the pattern in radians.
    pub(crate) rotation: f32,
    /// Shift of the pattern, in features.
    pub(crate) phase: Vec2,
    /// Strength of the distortion, in features.
    pub(crate) warp: f32,
    /// The noise field's seed.
    pub(crate) seed: u32,
}

impl Paint {
    /// A paint with this pattern, distinguishable random colours, and random rotation and phase.
    pub(crate) fn random(stream: &mut Stream, pattern: Pattern, frequency: f32) -> Self {
        let first = stream.colour((0.2, 0.9), (0.25, 0.95));
        let mut second = stream.colour((0.0, 0.9), (0.1, 1.0));
        if (first - second).abs().element_sum() < 0.7 {
            second = Vec3::ONE - first;
        }
        Self {
            pattern,
            colours: [first, second],
            frequency,
            rotation: stream.angle(),
            phase: stream.point(-0.5, 0.5),
            warp: stream.uniform(0.0, 0.4),
            seed: stream.seed(),
        }
    }

    /// The colour at a point.
    pub(crate) fn colour(&self, point: Vec2) -> Vec3 {
        if self.pattern == Pattern::Plain {
            return self.colours[0];
        }
        let mut place = Vec2::from_angle(self.rotation).rotate(point) * self.frequency + self.phase;
        if self.warp > 0.0 {
            let bend = Vec2::new(value_noise(place * 0.6, self.seed), value_noise(place * 0.6, !self.seed));
            place += (bend - 0.5) * self.warp * 2.0;
        }
        self.colours[0].lerp(self.colours[1], self.pattern.share(place, self.seed))
    }
}

/// A cluttered background: a gradient of two colours with noise, and waves at a random angle.
pub(crate) struct Clutter {
    colours: [Vec3; 3],
    frequency: f32,
    wave: Vec2,
    seed: u32,
}

impl Clutter {
    /// A random background, dull enough to leave the figure visible.
    pub(crate) fn random(stream: &mut Stream) -> Self {
        Self {
            colours: std::array::from_fn(|_| stream.colour((0.1, 0.6), (0.15, 0.9))),
            frequency: stream.uniform(2.0, 7.0),
            wave: Vec2::from_angle(stream.angle()) * stream.uniform(0.3, 2.5) * TAU,
            seed: stream.seed(),
        }
    }

    /// The colour at a point.
    pub(crate) fn colour(&self, point: Vec2) -> Vec3 {
        let drift = 0.5 + 0.5 * self.wave.dot(point).sin();
        let blotch = smoothstep(0.3, 0.7, fractal_noise(point * self.frequency, self.seed));
        self.colours[0].lerp(self.colours[1], drift).lerp(self.colours[2], blotch * 0.7)
    }
}
