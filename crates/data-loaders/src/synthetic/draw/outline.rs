//! Closed outlines around the origin: a radius as a function of direction, tabulated so that the inside test is cheap.
//!
//! The mini tasks use Gielis' superformula (American Journal of Botany 90(3), 2003, equation 1), the pretraining stream
//! uses Fourier descriptors, so no pretraining class has the shape of a task class.

use std::f32::consts::TAU;

use glam::Vec2;

/// Directions in the table; radii in between are interpolated.
const DIRECTIONS: usize = 128;

/// A star-shaped region around the origin, scaled so that its farthest point is at distance 1.
pub(crate) struct Outline {
    radii: [f32; DIRECTIONS],
}

impl Outline {
    /// The outline of a positive radius function of the direction in radians.
    pub(crate) fn from_polar(radius: impl Fn(f32) -> f32) -> Self {
        let mut radii: [f32; DIRECTIONS] =
            std::array::from_fn(|index| radius(index as f32 * TAU / DIRECTIONS as f32));
        let largest = radii.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        radii.iter_mut().for_each(|radius| *radius /= largest);
        Self { radii }
    }

    /// The superformula with a = b = 1: `symmetry` lobes, exponents n1, n2, n3.
    pub(crate) fn superformula(symmetry: f32, n1: f32, n2: f32, n3: f32) -> Self {
        Self::from_polar(|angle| {
            let quarter = symmetry * angle / 4.0;
            (quarter.cos().abs().powf(n2) + quarter.sin().abs().powf(n3)).powf(-1.0 / n1).min(8.0)
        })
    }

    /// Distance from the origin relative to the border in that direction: below 1 inside, above 1 outside.
    pub(crate) fn depth(&self, point: Vec2) -> f32 {
        let length = point.length();
        if length >= 1.0 {
            return length.max(1.0 + f32::EPSILON) * 2.0;
        }
        let turn = (point.y.atan2(point.x) / TAU).rem_euclid(1.0) * DIRECTIONS as f32;
        let index = turn as usize % DIRECTIONS;
        let next = (index + 1) % DIRECTIONS;
        let radius = self.radii[index] + (self.radii[next] - self.radii[index]) * turn.fract();
        length / radius.max(1e-3)
    }

    /// Whether the point lies inside.
    pub(crate) fn contains(&self, point: Vec2) -> bool {
        self.depth(point) < 1.0
    }
}

/// Pose of a figure: centre, scale (half its extent), rotation and a stretch of its axes.
#[derive(Clone, Copy)]
pub(crate) struct Pose {
    /// The image of the origin.
    pub(crate) centre: Vec2,
    /// Distance of the farthest point of an outline from the centre.
    pub(crate) scale: f32,
    /// Rotation in radians.
    pub(crate) rotation: f32,
    /// Width over height, at constant area.
    pub(crate) stretch: f32,
}

impl Pose {
    /// The point in the figure's own coordinates.
    pub(crate) fn local(&self, point: Vec2) -> Vec2 {
        let turned = Vec2::from_angle(-self.rotation).rotate(point - self.centre) / self.scale;
        turned * Vec2::new(1.0 / self.stretch.sqrt(), self.stretch.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superformula_with_all_exponents_two_is_a_disc() {
        let disc = Outline::superformula(4.0, 2.0, 2.0, 2.0);
        for index in 0..100 {
            let direction = Vec2::from_angle(index as f32 * 0.1);
            assert!(disc.contains(direction * 0.98) && !disc.contains(direction * 1.001));
        }
    }

    #[test]
    fn a_pose_maps_its_centre_to_the_origin_and_its_scale_to_one() {
        let pose = Pose { centre: Vec2::new(0.3, 0.4), scale: 0.2, rotation: 0.5, stretch: 1.0 };
        assert!(pose.local(pose.centre).length() < 1e-6);
        assert!((pose.local(Vec2::new(0.5, 0.4)).length() - 1.0).abs() < 1e-5);
    }
}
