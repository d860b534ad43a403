//! A small ray caster: solids on a ground plane under one lamp and a soft sky, seen by a perspective camera.
//!
//! It is used by every task about counts, distances or angles, and by the solid classes of pretraining.

use glam::{Vec2, Vec3};

use crate::random::Stream;
use crate::synthetic::draw::raster::{Exposure, render};
use crate::synthetic::draw::solid::{Hit, Solid};

/// A pinhole camera with a square image.
pub(crate) struct Camera {
    eye: Vec3,
    forward: Vec3,
    right: Vec3,
    up: Vec3,
    reach: f32,
}

impl Camera {
    /// A camera at `eye` that looks at `target`, with a field of view of `field` degrees in both directions.
    pub(crate) fn look_at(eye: Vec3, target: Vec3, field: f32) -> Self {
        let forward = (target - eye).normalize();
        let right = forward.cross(Vec3::Z).normalize();
        Self { eye, forward, right, up: right.cross(forward), reach: (field.to_radians() / 2.0).tan() }
    }

    /// Distance of a point along the viewing direction.
    pub(crate) fn depth(&self, point: Vec3) -> f32 {
        (point - self.eye).dot(self.forward)
    }

    fn ray(&self, point: Vec2) -> Vec3 {
        let offset = (point * 2.0 - 1.0) * self.reach;
        (self.forward + self.right * offset.x - self.up * offset.y).normalize()
    }
}

/// The light of a scene.
pub(crate) struct Light {
    /// Unit vector towards the lamp.
    towards: Vec3,
    /// Strength of the lamp.
    lamp: f32,
    /// Strength of the sky.
    ambient: f32,
}

impl Light {
    /// A lamp at an azimuth (radians) and an elevation (degrees).
    pub(crate) fn new(azimuth: f32, elevation: f32, lamp: f32, ambient: f32) -> Self {
        let (sine, cosine) = elevation.to_radians().sin_cos();
        Self { towards: (Vec2::from_angle(azimuth) * cosine).extend(sine), lamp, ambient }
    }

    /// Random azimuth, medium elevation.
    pub(crate) fn random(stream: &mut Stream) -> Self {
        let elevation = stream.uniform(35.0, 75.0);
        Self::new(stream.angle(), elevation, stream.uniform(0.5, 0.9), stream.uniform(0.3, 0.5))
    }
}

/// A scene to render.
pub(crate) struct Scene<Ground> {
    /// The solids; order does not matter.
    pub(crate) solids: Vec<Solid>,
    /// Reflectance of the plane z = 0 at (x, y).
    pub(crate) ground: Ground,
    /// Colour of the sky at the horizon and at the zenith.
    pub(crate) sky: [Vec3; 2],
    /// The light.
    pub(crate) light: Light,
}

impl<Ground: Fn(Vec2) -> Vec3> Scene<Ground> {
    /// Renders what the camera sees.
    pub(crate) fn draw(&self, camera: &Camera, image_size: u32, noise: f32, stream: &mut Stream) -> Vec<u8> {
        let exposure = Exposure::random(stream, noise);
        render(image_size, &exposure, stream, |point| self.colour(camera.eye, camera.ray(point)))
    }

    fn colour(&self, eye: Vec3, ray: Vec3) -> Vec3 {
        let nearest = self
            .solids
            .iter()
            .filter_map(|solid| Some((solid.meet(eye, ray)?, solid)))
            .min_by(|(one, _), (other, _)| one.distance.total_cmp(&other.distance));
        if let Some((hit, solid)) = nearest {
            let point = eye + ray * hit.distance;
            return self.lit(point, &hit, ray, solid.material.colour_at(point), solid.material.gloss);
        }
        if ray.z < -1e-3 {
            let hit = Hit { distance: eye.z / -ray.z, normal: Vec3::Z };
            let point = eye + ray * hit.distance;
            return self.lit(point, &hit, ray, (self.ground)(point.truncate()), 0.0);
        }
        self.sky[0].lerp(self.sky[1], ray.z.max(0.0).sqrt())
    }

    /// Lambertian shading by the lamp with cast shadows, ambient light from the sky, and Blinn's highlight.
    fn lit(&self, point: Vec3, hit: &Hit, ray: Vec3, colour: Vec3, gloss: f32) -> Vec3 {
        let sky = self.light.ambient * (0.7 + 0.3 * hit.normal.z);
        let slope = hit.normal.dot(self.light.towards);
        let origin = point + hit.normal * 1e-3;
        if slope <= 0.0 || self.solids.iter().any(|solid| solid.meet(origin, self.light.towards).is_some()) {
            return colour * sky;
        }
        let highlight = match gloss {
            0.0 => 0.0,
            gloss => gloss * hit.normal.dot((self.light.towards - ray).normalize()).max(0.0).powi(30),
        };
        colour * (sky + self.light.lamp * slope) + Vec3::splat(highlight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_centred_and_depth_grows_along_the_view() {
        let camera = Camera::look_at(Vec3::new(3.0, -4.0, 0.0), Vec3::ZERO, 45.0);
        assert!(camera.ray(Vec2::splat(0.5)).abs_diff_eq(camera.forward, 1e-6));
        assert!((camera.depth(Vec3::ZERO) - 5.0).abs() < 1e-5);
        assert!(
            camera.ray(Vec2::new(0.5, 0.1)).z > 0.0,
            "rays through the upper half of the image point upwards"
        );
    }
}
