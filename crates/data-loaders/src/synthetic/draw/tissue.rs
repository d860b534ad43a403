//! Images from a microscope and an ophthalmoscope: the synthetic stand-ins of Patch Camelyon and Diabetic Retinopathy.

use glam::{Vec2, Vec3};

use crate::random::Stream;
use crate::registry::TissueQuestion;
use crate::synthetic::draw::choices::Choices as _;
use crate::synthetic::draw::noise::{fractal_noise, value_noise};
use crate::synthetic::draw::raster::{Exposure, render, smoothstep};

impl TissueQuestion {
    /// Number of classes.
    pub(crate) fn classes(self) -> u32 {
        match self {
            Self::TumourInCentre => 2,
            Self::RetinopathyGrade => 5,
        }
    }

    /// Draws one image of the class.
    pub(crate) fn draw(self, class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
        match self {
            Self::TumourInCentre => stained_section(class == 1, image_size, stream),
            Self::RetinopathyGrade => fundus(class, image_size, stream),
        }
    }
}

/// A round spot: a nucleus or a lesion.
struct Spot {
    centre: Vec2,
    radius: f32,
    colour: Vec3,
}

impl Spot {
    /// Coverage of the point by the spot, with a soft border.
    fn cover(&self, point: Vec2) -> f32 {
        let squared = self.centre.distance_squared(point);
        if squared > self.radius * self.radius * 1.5 {
            return 0.0;
        }
        smoothstep(self.radius * 1.2, self.radius * 0.8, squared.sqrt())
    }
}

/// Healthy nuclei everywhere; tumour cells, larger and pale with a dark rim, in the centre if `tumour`, and often
/// outside it in either case.
fn stained_section(tumour: bool, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let stain = stream.near(Vec3::new(0.86, 0.62, 0.78), 0.09);
    let nucleus = stream.near(Vec3::new(0.36, 0.2, 0.5), 0.08);
    let seed = stream.seed();
    let count = 14 + stream.below(16);
    let mut spots: Vec<Spot> = (0..count)
        .map(|_| Spot {
            centre: stream.point(0.0, 1.0),
            radius: stream.uniform(0.025, 0.045),
            colour: stream.near(nucleus, 0.06),
        })
        .collect();
    let mut tumours: Vec<Vec2> = Vec::new();
    if tumour {
        tumours.extend((0..1 + stream.below(3)).map(|_| stream.point(0.36, 0.64)));
    }
    // Outside the central third by at least the cell's own radius.
    for _ in 0..stream.below(4) {
        let place = stream.point(0.0, 1.0);
        if (place - 0.5).abs().max_element() > 0.27 {
            tumours.push(place);
        }
    }
    for centre in tumours {
        let radius = stream.uniform(0.065, 0.09);
        spots.push(Spot { centre, radius, colour: stream.near(nucleus * 0.75, 0.05) });
        spots.push(Spot { centre, radius: radius * 0.5, colour: stream.near(nucleus * 1.7, 0.05) });
    }
    let exposure = Exposure::random(stream, 0.12);
    render(image_size, &exposure, stream, |point| {
        let fibre = fractal_noise(point * 5.0, seed);
        let mut colour = stain * (0.75 + 0.45 * fibre);
        for spot in &spots {
            colour = colour.lerp(spot.colour, spot.cover(point));
        }
        colour
    })
}

/// The back of an eye: an orange disc with vessels and the optic disc; lesions increase in number and kind with the
/// grade.
fn fundus(grade: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let retina = stream.near(Vec3::new(0.75, 0.36, 0.16), 0.12);
    let side = if stream.chance(0.5) { 1.0 } else { -1.0 };
    let disc = Vec2::new(0.5 + side * 0.25, stream.uniform(0.44, 0.56));
    let centre = stream.point(0.48, 0.52);
    let radius = stream.uniform(0.44, 0.5);
    let seed = stream.seed();
    let branches: [f32; 4] =
        std::array::from_fn(|index| (index as f32 - 1.5) * 0.55 + stream.uniform(-0.15, 0.15));
    let lesions = lesions(grade, centre, radius, stream);
    let exposure = Exposure::random(stream, 0.08);
    render(image_size, &exposure, stream, |point| {
        if point.distance(centre) > radius {
            return Vec3::splat(0.02);
        }
        let mut colour = retina * (0.8 + 0.3 * value_noise(point * 4.0, seed));
        let from_disc = (point - disc) * Vec2::new(-side, 1.0);
        let vessel = branches.iter().any(|slope| {
            let course = from_disc.y - slope * from_disc.x.max(0.0).sqrt() * 0.55;
            from_disc.x > 0.0 && course.abs() < 0.011
        });
        if vessel {
            colour = retina * 0.5;
        }
        colour = colour.lerp(Vec3::new(1.0, 0.85, 0.5), smoothstep(0.09, 0.07, point.distance(disc)));
        for lesion in &lesions {
            colour = colour.lerp(lesion.colour, lesion.cover(point));
        }
        colour
    })
}

/// A kind of lesion: minimum and maximum number by grade, radii and colour.
struct Lesion {
    numbers: [(usize, usize); 5],
    radii: (f32, f32),
    colour: Vec3,
}

const BLOOD: Vec3 = Vec3::new(0.3, 0.04, 0.03);
const FAT: Vec3 = Vec3::new(1.0, 0.92, 0.45);

/// 0: none. 1: microaneurysms only. 2: also haemorrhages. 3: many of them, and exudates. 4: also a large haemorrhage.
const LESIONS: [Lesion; 4] = [
    Lesion { numbers: [(0, 0), (2, 5), (3, 6), (4, 8), (3, 8)], radii: (0.014, 0.02), colour: BLOOD },
    Lesion { numbers: [(0, 0), (0, 0), (2, 4), (6, 10), (3, 9)], radii: (0.028, 0.04), colour: BLOOD },
    Lesion { numbers: [(0, 0), (0, 0), (0, 2), (3, 7), (2, 7)], radii: (0.018, 0.03), colour: FAT },
    Lesion { numbers: [(0, 0), (0, 0), (0, 0), (0, 0), (1, 2)], radii: (0.1, 0.14), colour: BLOOD },
];

fn lesions(grade: usize, centre: Vec2, radius: f32, stream: &mut Stream) -> Vec<Spot> {
    let mut spots = Vec::new();
    for kind in &LESIONS {
        let (least, most) = kind.numbers[grade];
        for _ in 0..least + stream.below(most - least + 1) {
            let place = Vec2::from_angle(stream.angle()) * stream.uniform(0.0, 0.8).sqrt() * radius;
            let size = stream.uniform(kind.radii.0, kind.radii.1);
            spots.push(Spot { centre: centre + place, radius: size, colour: stream.near(kind.colour, 0.05) });
        }
    }
    spots
}
