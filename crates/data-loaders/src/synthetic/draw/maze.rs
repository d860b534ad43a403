//! DeepMind Lab, re-implemented: `mini/dmlab`.
//!
//! VTAB's classes are {close, far, very far} x {positive, negative reward} of the visible object (Zhai et al. 2019,
//! appendix). Its distances are not published; ours are 1.5..3, 4..6.5 and 8..12 units. A positive reward is a fruit (a
//! ball with a stem), a negative one a crate with a lid, each in a random colour. Label: distance + 3 if negative.

use glam::{Vec2, Vec3};

use crate::random::Stream;
use crate::synthetic::draw::choices::Choices as _;
use crate::synthetic::draw::scene::{Camera, Light, Scene};
use crate::synthetic::draw::solid::{Material, Solid};

/// Distances of the object, in scene units.
const DISTANCES: [(f32, f32); 3] = [(1.5, 3.0), (4.0, 6.5), (8.0, 12.0)];
/// Three distances, two rewards.
pub(crate) const CLASSES: u32 = 6;

/// Draws a room with one object.
pub(crate) fn draw(class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let (near, far) = DISTANCES[class % 3];
    let distance = stream.uniform(near, far);
    let half_width = stream.uniform(1.6, 3.2);
    let side = stream.uniform(-1.0, 1.0) * (0.3 * distance).min(half_width - 0.7);
    let size = stream.uniform(0.42, 0.55);
    let mut solids = if class < 3 { fruit(size, stream) } else { crate_with_lid(size, stream) };
    solids.iter_mut().for_each(|part| *part = part.moved(Vec3::new(side, distance, 0.0)));
    let end = distance + stream.uniform(1.5, 6.0);
    solids.extend(walls(half_width, end, stream));
    let tile = stream.uniform(0.6, 1.4);
    let floor = [stream.colour((0.0, 0.5), (0.4, 0.8)), stream.colour((0.0, 0.5), (0.4, 0.8))];
    let ground = move |place: Vec2| {
        let square = (place / tile).floor().element_sum().rem_euclid(2.0);
        floor[usize::from(square >= 1.0)]
    };
    let sky = [stream.colour((0.1, 0.5), (0.5, 0.9)), stream.colour((0.1, 0.6), (0.4, 0.8))];
    let heading = Vec3::new(stream.uniform(-0.12, 0.12), 1.0, stream.uniform(-0.2, 0.0));
    let eye = Vec3::Z * stream.uniform(0.85, 1.05);
    let camera = Camera::look_at(eye, eye + heading, 62.0);
    // A low lamp would be blocked by the walls: it is high, and most light comes from the ceiling.
    let light = Light::new(stream.angle(), stream.uniform(75.0, 85.0), 0.45, stream.uniform(0.6, 0.85));
    Scene { solids, ground, sky, light }.draw(&camera, image_size, 0.06, stream)
}

fn fruit(size: f32, stream: &mut Stream) -> Vec<Solid> {
    let colour = stream.colour((0.5, 1.0), (0.5, 1.0));
    let skin = Material { colour, gloss: 0.5, check: 0.0 };
    let stem = Material::matt(stream.near(Vec3::new(0.25, 0.3, 0.1), 0.1));
    vec![
        Solid::sphere(Vec3::Z * size, size, skin),
        Solid::cylinder(Vec3::Z * size * 2.2, size * 0.12, size * 0.3, stem),
    ]
}

fn crate_with_lid(size: f32, stream: &mut Stream) -> Vec<Solid> {
    let body = Material::matt(stream.colour((0.5, 1.0), (0.5, 1.0)));
    let lid = Material::matt(body.colour * 0.5);
    let turn = stream.angle();
    vec![
        Solid::block(Vec3::Z * size * 0.8, Vec3::splat(size * 0.8), body).turned(turn),
        Solid::block(Vec3::Z * size * 1.75, Vec3::new(0.9, 0.9, 0.15) * size, lid).turned(turn),
    ]
}

/// Two side walls and an end wall, each with its own colour and check.
fn walls(half_width: f32, end: f32, stream: &mut Stream) -> Vec<Solid> {
    let height = stream.uniform(1.0, 1.8);
    let mut wall = |centre: Vec3, half: Vec3| {
        let check = stream.pick(&[0.0, 0.5, 1.0]);
        let colour = stream.colour((0.1, 0.6), (0.4, 0.9));
        Solid::block(centre, half, Material { colour, gloss: 0.0, check })
    };
    [-1.0, 1.0]
        .map(|side| {
            wall(Vec3::new(side * (half_width + 0.1), end / 2.0, height), Vec3::new(0.1, end, height))
        })
        .into_iter()
        .chain([wall(Vec3::new(0.0, end, height), Vec3::new(half_width, 0.1, height))])
        .collect()
}
