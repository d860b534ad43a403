//! Random choices for synthetic images: points, angles, colours.

use glam::{Vec2, Vec3};

use crate::random::Stream;

/// Random points and colours.
pub(crate) trait Choices {
    /// A point of the square `low..high` x `low..high`.
    fn point(&mut self, low: f32, high: f32) -> Vec2;

    /// A colour of any hue with saturation and value in the given ranges.
    fn colour(&mut self, saturation: (f32, f32), value: (f32, f32)) -> Vec3;

    /// A colour near the given one: each channel changed by up to `spread`.
    fn near(&mut self, colour: Vec3, spread: f32) -> Vec3;
}

impl Choices for Stream {
    fn point(&mut self, low: f32, high: f32) -> Vec2 {
        Vec2::new(self.uniform(low, high), self.uniform(low, high))
    }

    fn colour(&mut self, saturation: (f32, f32), value: (f32, f32)) -> Vec3 {
        let hue = self.uniform(0.0, 1.0);
        hsv(hue, self.uniform(saturation.0, saturation.1), self.uniform(value.0, value.1))
    }

    fn near(&mut self, colour: Vec3, spread: f32) -> Vec3 {
        let mut shift = || self.uniform(-spread, spread);
        (colour + Vec3::new(shift(), shift(), shift())).clamp(Vec3::ZERO, Vec3::ONE)
    }
}

/// RGB of a colour given as hue, saturation and value, all in 0..=1.
pub(crate) fn hsv(hue: f32, saturation: f32, value: f32) -> Vec3 {
    let channel = |offset: f32| {
        let k = (offset + hue * 6.0).rem_euclid(6.0);
        value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    };
    Vec3::new(channel(5.0), channel(3.0), channel(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primary_hues_are_the_primary_colours() {
        assert_eq!(hsv(0.0, 1.0, 1.0), Vec3::X);
        assert!(hsv(1.0 / 3.0, 1.0, 1.0).abs_diff_eq(Vec3::Y, 1e-6));
        assert!(hsv(2.0 / 3.0, 1.0, 0.5).abs_diff_eq(Vec3::Z * 0.5, 1e-6));
    }
}
