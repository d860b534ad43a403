//! CLEVR, re-implemented: `mini/clevr_count` and `mini/clevr_distance`.
//!
//! As in Johnson et al. 2017: 3 to 10 cubes, spheres and cylinders of two sizes, two materials and eight colours on a
//! grey floor, with jittered camera and lamp. Labels as defined by VTAB: the number of objects minus 3; the depth of
//! the closest object with thresholds 8, 8.5, 9, 9.5 and 10 (the upper bound belongs to the class).

use glam::{Vec2, Vec3};

use crate::random::Stream;
use crate::synthetic::draw::choices::Choices as _;
use crate::synthetic::draw::scene::{Camera, Light, Scene};
use crate::synthetic::draw::solid::{Material, Solid};

/// Scenes have 3..=10 objects.
pub(crate) const COUNT_CLASSES: u32 = 8;
/// Upper bounds of the depth classes; the last class is open.
const DEPTHS: [f32; 5] = [8.0, 8.5, 9.0, 9.5, 10.0];
/// Number of depth classes.
pub(crate) const DEPTH_CLASSES: u32 = DEPTHS.len() as u32 + 1;

const COLOURS: [Vec3; 8] = [
    Vec3::new(0.34, 0.34, 0.34),
    Vec3::new(0.68, 0.14, 0.14),
    Vec3::new(0.16, 0.29, 0.84),
    Vec3::new(0.11, 0.41, 0.08),
    Vec3::new(0.51, 0.29, 0.1),
    Vec3::new(0.51, 0.15, 0.75),
    Vec3::new(0.16, 0.82, 0.82),
    Vec3::new(1.0, 0.93, 0.2),
];

/// The depth class of a distance.
fn depth_class(depth: f32) -> usize {
    DEPTHS.iter().filter(|threshold| depth > **threshold).count()
}

/// Draws a table with `class + 3` objects.
pub(crate) fn draw_count(class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let camera = camera(stream);
    let objects = objects(class + 3, stream);
    draw(objects, &camera, image_size, stream)
}

/// Draws a table whose closest object is in the depth class.
pub(crate) fn draw_distance(class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    loop {
        let camera = camera(stream);
        let count = 3 + stream.below(COUNT_CLASSES as usize);
        let objects = objects(count, stream);
        let closest = objects.iter().map(|object| camera.depth(object.centre)).fold(f32::MAX, f32::min);
        if depth_class(closest) == class {
            return draw(objects, &camera, image_size, stream);
        }
    }
}

fn camera(stream: &mut Stream) -> Camera {
    let jitter = stream.point(-0.5, 0.5).extend(stream.uniform(-0.5, 0.5));
    Camera::look_at(Vec3::new(7.2, -6.5, 5.4) + jitter, Vec3::ZERO, 44.0)
}

/// Non-overlapping objects at random positions on the table.
fn objects(count: usize, stream: &mut Stream) -> Vec<Solid> {
    let mut placed: Vec<(Vec2, f32)> = Vec::with_capacity(count);
    while placed.len() < count {
        let radius = stream.pick(&[0.4, 0.7]);
        // If there is no space left for an object, start over.
        let free = (0..50)
            .map(|_| stream.point(-3.0, 3.0))
            .find(|place| placed.iter().all(|(other, size)| other.distance(*place) > radius + size + 0.25));
        match free {
            Some(place) => placed.push((place, radius)),
            None => placed.clear(),
        }
    }
    placed.into_iter().map(|(place, radius)| object(place, radius, stream)).collect()
}

fn object(place: Vec2, radius: f32, stream: &mut Stream) -> Solid {
    let metal = stream.chance(0.5);
    let material =
        Material { colour: stream.pick(&COLOURS), gloss: if metal { 0.8 } else { 0.0 }, check: 0.0 };
    let centre = place.extend(radius);
    match stream.below(3) {
        0 => Solid::sphere(centre, radius, material),
        1 => Solid::cylinder(centre, radius, radius, material),
        _ => {
            let half = Vec3::splat(radius * std::f32::consts::FRAC_1_SQRT_2);
            Solid::block(Vec3::Z * half.z, half, material).turned(stream.angle()).moved(place.extend(0.0))
        }
    }
}

fn draw(solids: Vec<Solid>, camera: &Camera, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let light = Light::random(stream);
    let floor = Vec3::splat(stream.uniform(0.45, 0.65));
    let sky = [Vec3::splat(0.6); 2];
    Scene { solids, ground: move |_| floor, sky, light }.draw(camera, image_size, 0.03, stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_classes_follow_the_thresholds_of_vtab() {
        let classes = [7.9, 8.0, 8.01, 8.5, 8.9, 9.4, 9.99, 10.0, 10.1, 50.0].map(depth_class);
        assert_eq!(classes, [0, 0, 1, 1, 2, 3, 4, 4, 5, 5]);
    }

    #[test]
    fn the_requested_number_of_objects_do_not_overlap() {
        let objects = objects(10, &mut Stream::new("test", &[]));
        assert_eq!(objects.len(), 10);
        assert!(objects.iter().all(|object| object.centre.truncate().abs().max_element() <= 3.0));
    }
}
