//! Small NORB, re-implemented: `mini/smallnorb_azimuth` and `mini/smallnorb_elevation`.
//!
//! As in LeCun et al. 2004: toys of five categories (four-legged animal, human, airplane, truck, car) on a turntable,
//! grey, under 6 lightings, 18 azimuths 0, 20 .. 340 degrees and 9 elevations 30, 35 .. 70 degrees; the label is the
//! index of the angle. A toy's proportions vary from image to image.

use std::f32::consts::TAU;

use glam::Vec3;

use crate::random::Stream;
use crate::synthetic::draw::scene::{Camera, Light, Scene};
use crate::synthetic::draw::solid::{Material, Solid};

/// Steps of 20 degrees.
pub(crate) const AZIMUTHS: u32 = 18;
/// Steps of 5 degrees starting at 30.
pub(crate) const ELEVATIONS: u32 = 9;

/// Azimuth (radians), elevation (degrees) and strength of the six lamps.
const LAMPS: [(f32, f32, f32); 6] = [
    (0.5, 60.0, 0.6),
    (2.6, 60.0, 0.6),
    (-1.5, 50.0, 0.7),
    (-0.6, 40.0, 0.9),
    (-2.5, 40.0, 0.9),
    (1.5, 80.0, 0.8),
];

/// Draws a toy at this azimuth, with a random elevation.
pub(crate) fn draw_azimuth(class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let elevation = stream.below(ELEVATIONS as usize);
    draw(class, elevation, image_size, stream)
}

/// Draws a toy at this elevation, with a random azimuth.
pub(crate) fn draw_elevation(class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let azimuth = stream.below(AZIMUTHS as usize);
    draw(azimuth, class, image_size, stream)
}

fn draw(azimuth: usize, elevation: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let turn = TAU * azimuth as f32 / AZIMUTHS as f32;
    let (sine, cosine) = (30.0 + 5.0 * elevation as f32).to_radians().sin_cos();
    let camera = Camera::look_at(Vec3::new(0.0, -4.2 * cosine, 4.2 * sine + 0.4), Vec3::Z * 0.4, 38.0);
    let solids = toy(stream).into_iter().map(|part| part.turned(turn)).collect();
    let (azimuth, elevation, lamp) = stream.pick(&LAMPS);
    let table = Vec3::splat(stream.uniform(0.55, 0.75));
    let light = Light::new(azimuth, elevation, lamp, 0.35);
    Scene { solids, ground: move |_| table, sky: [table; 2], light }.draw(&camera, image_size, 0.04, stream)
}

/// A toy of a random category; its front faces +x and it fits in a circle of radius 1.2.
fn toy(stream: &mut Stream) -> Vec<Solid> {
    let mut kit = Kit {
        material: Material::matt(Vec3::splat(stream.uniform(0.3, 0.75))),
        vary: std::array::from_fn(|_| stream.uniform(0.85, 1.15)),
        parts: Vec::new(),
    };
    match stream.below(5) {
        0 => animal(&mut kit),
        1 => human(&mut kit),
        2 => airplane(&mut kit),
        3 => truck(&mut kit),
        _ => car(&mut kit),
    }
    kit.parts
}

/// The parts of a toy and its proportions.
struct Kit {
    material: Material,
    vary: [f32; 3],
    parts: Vec<Solid>,
}

impl Kit {
    fn scaled(&self, v: [f32; 3]) -> Vec3 {
        Vec3::from(v) * Vec3::from(self.vary)
    }

    fn block(&mut self, centre: [f32; 3], half: [f32; 3]) {
        self.parts.push(Solid::block(self.scaled(centre), self.scaled(half), self.material));
    }

    fn ball(&mut self, centre: [f32; 3], radius: f32) {
        self.parts.push(Solid::sphere(self.scaled(centre), radius, self.material));
    }

    fn pillar(&mut self, centre: [f32; 3], radius: f32, half_height: f32) {
        let height = half_height * self.vary[2];
        self.parts.push(Solid::cylinder(self.scaled(centre), radius, height, self.material));
    }

    /// Four pillars or wheels at the corners.
    fn corners(&mut self, x: f32, y: f32, z: f32, radius: f32) {
        for (side, end) in [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)] {
            self.pillar([end * x, side * y, z], radius, z);
        }
    }
}

fn animal(kit: &mut Kit) {
    kit.block([0.0, 0.0, 0.62], [0.62, 0.24, 0.22]);
    kit.corners(0.5, 0.16, 0.2, 0.09);
    kit.block([0.66, 0.0, 0.95], [0.12, 0.12, 0.25]);
    kit.ball([0.85, 0.0, 1.15], 0.22);
    kit.block([-0.75, 0.0, 0.75], [0.16, 0.04, 0.04]);
}

fn human(kit: &mut Kit) {
    kit.pillar([0.0, -0.14, 0.3], 0.12, 0.3);
    kit.pillar([0.0, 0.14, 0.3], 0.12, 0.3);
    kit.block([0.0, 0.0, 0.85], [0.16, 0.3, 0.3]);
    kit.ball([0.05, 0.0, 1.34], 0.2);
    kit.block([0.3, 0.36, 0.95], [0.36, 0.07, 0.07]);
    kit.block([0.1, -0.36, 0.85], [0.08, 0.07, 0.3]);
}

fn airplane(kit: &mut Kit) {
    kit.block([0.0, 0.0, 0.5], [0.95, 0.14, 0.14]);
    kit.ball([0.95, 0.0, 0.5], 0.15);
    kit.block([0.15, 0.0, 0.52], [0.22, 1.0, 0.03]);
    kit.block([-0.85, 0.0, 0.52], [0.12, 0.4, 0.03]);
    kit.block([-0.85, 0.0, 0.78], [0.14, 0.03, 0.2]);
    kit.pillar([0.1, 0.0, 0.18], 0.1, 0.18);
}

fn truck(kit: &mut Kit) {
    kit.block([-0.3, 0.0, 0.68], [0.65, 0.36, 0.42]);
    kit.block([0.72, 0.0, 0.5], [0.26, 0.34, 0.28]);
    kit.corners(0.65, 0.3, 0.12, 0.16);
}

fn car(kit: &mut Kit) {
    kit.block([0.0, 0.0, 0.32], [0.95, 0.42, 0.17]);
    kit.block([-0.2, 0.0, 0.6], [0.45, 0.36, 0.14]);
    kit.corners(0.6, 0.38, 0.1, 0.16);
}
