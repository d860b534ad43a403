//! The endless stream of labelled images on which bundled backbones are pretrained.
//!
//! Two families of invented objects. Planar ones: every combination of an outline (Fourier descriptors), a fill (a
//! grating bent by another) and a colour scheme, so that shape, texture and colour all matter. Solid ones: assemblies
//! of blocks, balls and cylinders seen from one of four sides. None is a class of a mini task: those use other
//! outlines, patterns and scenes. An image is a function of (seed, index) only.

use std::f32::consts::{FRAC_PI_2, TAU};

use glam::{Vec2, Vec3};
use rayon::prelude::*;

use crate::random::Stream;
use crate::synthetic::draw::choices::{Choices as _, hsv};
use crate::synthetic::draw::noise::fractal_noise;
use crate::synthetic::draw::outline::{Outline, Pose};
use crate::synthetic::draw::raster::{Exposure, render, smoothstep};
use crate::synthetic::draw::scene::{Camera, Light, Scene};
use crate::synthetic::draw::solid::{Material, Solid};

const OUTLINES: usize = 12;
const FILLS: usize = 6;
const SCHEMES: usize = 4;
const PLANAR_CLASSES: usize = OUTLINES * FILLS * SCHEMES;
const ASSEMBLIES: usize = 16;
const SIDES: usize = 4;
const SOLID_CLASSES: usize = ASSEMBLIES * SIDES;

/// The pretraining dataset for a seed: 352 classes, an unlimited number of images.
pub struct PretrainSet {
    seed: u64,
    image_size: u32,
    outlines: Vec<Outline>,
    fills: Vec<Fill>,
    assemblies: Vec<Vec<Solid>>,
}

impl PretrainSet {
    /// Generates the classes for a seed; images will be `image_size` pixels wide.
    pub fn new(seed: u64, image_size: u32) -> Self {
        let stream = |kind: &str, index: usize| Stream::new(kind, &[seed, index as u64]);
        Self {
            seed,
            image_size,
            outlines: (0..OUTLINES)
                .map(|index| random_outline(&mut stream("pretrain outline", index)))
                .collect(),
            fills: (0..FILLS).map(|index| Fill::random(index, &mut stream("pretrain fill", index))).collect(),
            assemblies: (0..ASSEMBLIES).map(|index| assembly(&mut stream("pretrain solid", index))).collect(),
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> u32 {
        (PLANAR_CLASSES + SOLID_CLASSES) as u32
    }

    /// Side of the images in pixels.
    pub fn image_size(&self) -> u32 {
        self.image_size
    }

    /// Appends images `first_index..first_index + count`: bytes `[count, 3, side, side]` and labels `[count]`.
    pub fn draw(&self, first_index: u64, count: usize, pixels: &mut Vec<u8>, labels: &mut Vec<u32>) {
        let area = (self.image_size * self.image_size) as usize;
        let start = pixels.len();
        pixels.resize(start + count * 3 * area, 0);
        labels.extend((first_index..first_index + count as u64).map(|index| self.class(index) as u32));
        pixels[start..].par_chunks_exact_mut(3 * area).enumerate().for_each(|(offset, planes)| {
            let image = self.image(first_index + offset as u64);
            for (place, pixel) in image.chunks_exact(3).enumerate() {
                for (channel, value) in pixel.iter().enumerate() {
                    planes[channel * area + place] = *value;
                }
            }
        });
    }

    fn class(&self, index: u64) -> usize {
        Stream::new("pretrain class", &[self.seed, index]).below(PLANAR_CLASSES + SOLID_CLASSES)
    }

    fn image(&self, index: u64) -> Vec<u8> {
        let stream = &mut Stream::new("pretrain image", &[self.seed, index]);
        match self.class(index) {
            class if class < PLANAR_CLASSES => self.planar(class, stream),
            class => self.solid(class - PLANAR_CLASSES, stream),
        }
    }

    fn planar(&self, class: usize, stream: &mut Stream) -> Vec<u8> {
        let outline = &self.outlines[class % OUTLINES];
        let fill = &self.fills[class / OUTLINES % FILLS];
        let colours = scheme(class / OUTLINES / FILLS, stream);
        let scale = stream.uniform(0.22, 0.46);
        let pose = Pose {
            centre: stream.point(scale * 0.8, 1.0 - scale * 0.8),
            scale,
            rotation: stream.uniform(-0.7, 0.7),
            stretch: stream.uniform(0.8, 1.25),
        };
        let phases = stream.point(0.0, TAU);
        let light = Vec2::from_angle(stream.angle()) * 0.3;
        let backdrop = Backdrop::random(stream);
        let distractors: [Pose; 2] = std::array::from_fn(|_| Pose {
            centre: stream.point(0.0, 1.0),
            scale: stream.uniform(0.06, 0.14),
            rotation: stream.angle(),
            stretch: 1.0,
        });
        let (other, tint) = (&self.outlines[stream.below(OUTLINES)], stream.colour((0.1, 0.9), (0.2, 0.9)));
        let exposure = Exposure::random(stream, 0.12);
        render(self.image_size, &exposure, stream, |point| {
            let local = pose.local(point);
            if outline.contains(local) {
                return colours[0].lerp(colours[1], fill.share(local, phases)) * (0.9 + light.dot(local));
            }
            if distractors.iter().any(|pose| other.contains(pose.local(point))) {
                tint
            } else {
                backdrop.colour(point)
            }
        })
    }

    fn solid(&self, class: usize, stream: &mut Stream) -> Vec<u8> {
        let turn = FRAC_PI_2 * ((class % SIDES) as f32 + stream.uniform(-0.4, 0.4));
        let size = stream.uniform(4.2, 6.0);
        let (sine, cosine) = stream.uniform(15.0, 55.0_f32).to_radians().sin_cos();
        let aim = stream.point(-0.6, 0.6).extend(0.6);
        let camera = Camera::look_at(aim + Vec3::new(0.0, -size * cosine, size * sine), aim, 40.0);
        let shift = stream.uniform(-0.06, 0.06);
        let mut solids: Vec<Solid> =
            self.assemblies[class / SIDES].iter().map(|part| part.turned(turn)).collect();
        for part in &mut solids {
            part.material.colour = stream.near(part.material.colour + shift, 0.12);
        }
        let floor = Backdrop::random(stream);
        let sky = [stream.colour((0.0, 0.5), (0.3, 0.9)), stream.colour((0.0, 0.5), (0.3, 0.9))];
        let ground = move |place: Vec2| floor.colour(place * 0.25);
        let light = Light::random(stream);
        Scene { solids, ground, sky, light }.draw(&camera, self.image_size, 0.08, stream)
    }
}

/// A closed curve of six harmonics.
fn random_outline(stream: &mut Stream) -> Outline {
    let harmonics: [(f32, f32); 6] = std::array::from_fn(|index| {
        (stream.uniform(0.0, 0.55) / (index as f32 + 1.0).powf(0.6), stream.angle())
    });
    Outline::from_polar(|angle| {
        let sum = harmonics.iter().zip(1..).map(|((size, phase), k)| size * (k as f32 * angle + phase).cos());
        (1.0 + sum.sum::<f32>()).max(0.22)
    })
}

/// A fill: a grating whose phase is bent by a second one.
struct Fill {
    carrier: Vec2,
    bender: Vec2,
    bend: f32,
    sharpness: f32,
}

impl Fill {
    /// The first fill is plain, the others range from coarse to fine.
    fn random(index: usize, stream: &mut Stream) -> Self {
        let frequency = index as f32 * stream.uniform(2.0, 2.6);
        Self {
            carrier: Vec2::from_angle(stream.angle()) * frequency,
            bender: Vec2::from_angle(stream.angle()) * stream.uniform(2.0, 7.0),
            bend: if index == 0 { 0.0 } else { stream.uniform(0.0, 2.5) },
            sharpness: stream.uniform(0.2, 0.9),
        }
    }

    fn share(&self, point: Vec2, phases: Vec2) -> f32 {
        if self.carrier == Vec2::ZERO {
            return 0.0;
        }
        let wave =
            (self.carrier.dot(point) + phases.x + self.bend * (self.bender.dot(point) + phases.y).sin())
                .sin();
        smoothstep(-self.sharpness, self.sharpness, wave)
    }
}

/// The two colours of an object: a scheme fixes a quarter of the hues for the first, and the distance of the second.
fn scheme(scheme: usize, stream: &mut Stream) -> [Vec3; 2] {
    let hue = (scheme as f32 + stream.uniform(0.05, 0.95)) / SCHEMES as f32;
    let first = hsv(hue, stream.uniform(0.5, 1.0), stream.uniform(0.5, 1.0));
    let second = hsv(hue + stream.uniform(0.3, 0.7), stream.uniform(0.0, 0.9), stream.uniform(0.05, 0.5));
    [first, second]
}

/// Three to five solids stacked or hovering around the origin, within a radius of about 1.
fn assembly(stream: &mut Stream) -> Vec<Solid> {
    let mut height = 0.0;
    (0..3 + stream.below(3))
        .map(|_| {
            let material = Material {
                colour: stream.colour((0.2, 0.9), (0.3, 0.9)),
                gloss: stream.pick(&[0.0, 0.6]),
                check: stream.pick(&[0.0, 0.0, 0.3]),
            };
            let size = stream.uniform(0.22, 0.5);
            let place = stream.point(-0.6, 0.6).extend(height + size);
            height += size * stream.uniform(0.0, 1.2);
            match stream.below(3) {
                0 => Solid::sphere(place, size, material),
                1 => Solid::cylinder(place, size * stream.uniform(0.5, 1.2), size, material),
                _ => {
                    let half = Vec3::new(stream.uniform(0.2, 0.7), stream.uniform(0.2, 0.7), size);
                    Solid::block(place, half, material)
                }
            }
        })
        .collect()
}

/// The background of an object: noise between three colours.
struct Backdrop {
    colours: [Vec3; 3],
    frequency: f32,
    slope: Vec2,
    seed: u32,
}

impl Backdrop {
    fn random(stream: &mut Stream) -> Self {
        Self {
            colours: std::array::from_fn(|_| stream.colour((0.0, 0.7), (0.1, 0.95))),
            frequency: stream.uniform(2.0, 9.0),
            slope: stream.point(-1.0, 1.0),
            seed: stream.seed(),
        }
    }

    fn colour(&self, point: Vec2) -> Vec3 {
        let noise = fractal_noise(point * self.frequency, self.seed);
        let drift = (0.5 + self.slope.dot(point - 0.5)).clamp(0.0, 1.0);
        self.colours[0].lerp(self.colours[1], drift).lerp(self.colours[2], smoothstep(0.3, 0.7, noise) * 0.75)
    }
}
