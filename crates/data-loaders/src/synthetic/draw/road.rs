//! KITTI, re-implemented: `mini/kitti_distance`.
//!
//! The label is VTAB's: the distance z (metres, along the viewing direction) of the closest car, van or truck with
//! thresholds 8 and 20, and a fourth class without a vehicle. Pedestrians, trees and houses do not count. The camera is
//! at KITTI's height of 1.65 m above the road (Geiger et al. 2013); the field of view is narrower than KITTI's, for a
//! square image.

use glam::{Vec2, Vec3};

use crate::random::Stream;
use crate::synthetic::draw::choices::Choices as _;
use crate::synthetic::draw::scene::{Camera, Light, Scene};
use crate::synthetic::draw::solid::{Material, Solid};

/// Ranges of the distance classes in metres; vehicles farther away than the last are too small to be seen.
const DISTANCES: [(f32, f32); 3] = [(4.5, 8.0), (8.0, 20.0), (20.0, 40.0)];
/// Three distances, and no vehicle.
pub(crate) const CLASSES: u32 = 4;

/// Draws a street whose closest vehicle is in the distance class.
pub(crate) fn draw(class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let half_road = stream.uniform(3.5, 6.5);
    let mut solids = roadside(half_road, stream);
    if let Some((near, far)) = DISTANCES.get(class) {
        let closest = stream.uniform(*near, *far);
        solids.extend(vehicle(closest, half_road, stream));
        for _ in 0..stream.below(4) {
            let distance = stream.uniform(closest + 2.0, 45.0_f32.max(closest + 4.0));
            solids.extend(vehicle(distance, half_road, stream));
        }
    }
    for _ in 0..stream.below(3) {
        solids.extend(pedestrian(half_road, stream));
    }
    let asphalt = Vec3::splat(stream.uniform(0.25, 0.45));
    let verge = stream.near(Vec3::new(0.3, 0.4, 0.2), 0.12);
    let ground = move |place: Vec2| {
        let dash = place.x.abs() < 0.1 && (place.y / 6.0).rem_euclid(1.0) < 0.5;
        let border = (place.x.abs() - half_road + 0.3).abs() < 0.08;
        if place.x.abs() > half_road {
            verge
        } else if dash || border {
            Vec3::splat(0.85)
        } else {
            asphalt
        }
    };
    let eye = Vec3::Z * 1.65;
    let heading = Vec3::new(stream.uniform(-0.05, 0.05), 1.0, stream.uniform(-0.1, -0.02));
    let sky = [stream.near(Vec3::splat(0.8), 0.1), stream.near(Vec3::new(0.5, 0.65, 0.9), 0.1)];
    let camera = Camera::look_at(eye, eye + heading, 50.0);
    Scene { solids, ground, sky, light: Light::random(stream) }.draw(&camera, image_size, 0.06, stream)
}

/// A visible car, van or truck with its centre at this distance, along or across the road.
fn vehicle(distance: f32, half_road: f32, stream: &mut Stream) -> Vec<Solid> {
    let paint = Material { colour: stream.colour((0.0, 0.9), (0.15, 0.95)), gloss: 0.4, check: 0.0 };
    let glass = Material { colour: Vec3::new(0.1, 0.12, 0.16), gloss: 0.5, check: 0.0 };
    let tyre = Material::matt(Vec3::splat(0.06));
    let (length, width, height, cabin) =
        stream.pick(&[(2.1, 0.85, 0.4, 0.3), (2.3, 0.95, 0.55, 0.45), (3.0, 1.15, 1.1, 0.3)]);
    let side = stream.uniform(-1.0, 1.0) * (0.36 * distance).min(half_road - 1.0);
    let turn = if stream.chance(0.25) { std::f32::consts::FRAC_PI_2 } else { stream.uniform(-0.15, 0.15) };
    let body = Solid::block(Vec3::Z * (0.35 + height), Vec3::new(width, length, height), paint);
    let roof = 0.35 + 2.0 * height + cabin;
    let top = Solid::block(Vec3::new(0.0, -0.2, roof), Vec3::new(width * 0.85, length * 0.5, cabin), glass);
    let wheels = [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)].map(|(x, y)| {
        Solid::block(Vec3::new(x * width, y * length * 0.65, 0.35), Vec3::new(0.12, 0.33, 0.33), tyre)
    });
    let place = Vec3::new(side, distance, 0.0);
    [body, top].into_iter().chain(wheels).map(|part| part.turned(turn).moved(place)).collect()
}

fn pedestrian(half_road: f32, stream: &mut Stream) -> [Solid; 2] {
    let distance = stream.uniform(6.0, 25.0);
    let side =
        stream.pick(&[-1.0, 1.0]) * stream.uniform(half_road * 0.8, half_road + 1.5).min(0.4 * distance);
    let cloth = Material::matt(stream.colour((0.2, 0.9), (0.1, 0.8)));
    let skin = Material::matt(Vec3::new(0.7, 0.5, 0.4));
    let place = Vec3::new(side, distance, 0.0);
    [
        Solid::cylinder(place + Vec3::Z * 0.75, 0.26, 0.75, cloth),
        Solid::sphere(place + Vec3::Z * 1.65, 0.17, skin),
    ]
}

/// Houses and trees on both sides.
fn roadside(half_road: f32, stream: &mut Stream) -> Vec<Solid> {
    let mut solids = Vec::new();
    for side in [-1.0, 1.0] {
        let mut distance = stream.uniform(4.0, 12.0);
        while distance < 45.0 {
            let away = half_road + stream.uniform(2.0, 5.0);
            if stream.chance(0.5) {
                let half = Vec3::new(2.5, stream.uniform(2.5, 4.5), stream.uniform(1.8, 4.5));
                let colour = stream.colour((0.1, 0.4), (0.35, 0.8));
                let centre = Vec3::new(side * (away + half.x), distance, half.z);
                solids.push(Solid::block(centre, half, Material { colour, gloss: 0.0, check: 1.5 }));
            } else {
                let place = Vec3::new(side * away, distance, 0.0);
                let crown = stream.uniform(1.2, 2.2);
                let bark = Material::matt(Vec3::new(0.25, 0.18, 0.1));
                let leaf = Material::matt(stream.near(Vec3::new(0.15, 0.35, 0.12), 0.08));
                solids.push(Solid::cylinder(place + Vec3::Z, 0.2, 1.0, bark));
                solids.push(Solid::sphere(place + Vec3::Z * (1.8 + crown), crown, leaf));
            }
            distance += stream.uniform(7.0, 14.0);
        }
    }
    solids
}
