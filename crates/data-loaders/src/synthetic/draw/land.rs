//! The ground seen from above: the synthetic stand-ins of EuroSAT (land use) and RESISC45 (aerial scenes).
//!
//! A class is a table row: tones, relief, parcels, crop rows, a line such as a road, and blocks such as houses.

use std::f32::consts::PI;

use glam::{Vec2, Vec3};

use crate::random::Stream;
use crate::synthetic::draw::choices::Choices as _;
use crate::synthetic::draw::noise::{cell, fractal_noise, value_noise};
use crate::synthetic::draw::raster::{Exposure, render, smoothstep};

/// A long structure across the tile.
#[derive(Clone, Copy, PartialEq)]
enum Line {
    None,
    Road,
    Crossing,
    Roundabout,
    River,
    Runway,
    Shore,
    Bridge,
}

/// Repeated small objects.
#[derive(Clone, Copy, PartialEq)]
enum Blocks {
    None,
    Trees,
    Houses,
    Sheds,
    Cars,
    Tanks,
    Boats,
}

/// The parameters of a tile class; colours are reflectances, frequencies are features per side of the tile.
struct Cover {
    tones: [Vec3; 2],
    relief: f32,
    parcels: f32,
    rows: f32,
    line: Line,
    blocks: Blocks,
}

const GREEN: Vec3 = Vec3::new(0.25, 0.42, 0.18);
const WOOD: Vec3 = Vec3::new(0.08, 0.22, 0.1);
const STRAW: Vec3 = Vec3::new(0.65, 0.55, 0.3);
const EARTH: Vec3 = Vec3::new(0.45, 0.33, 0.22);
const STONE: Vec3 = Vec3::new(0.55, 0.53, 0.5);
const WATER: Vec3 = Vec3::new(0.08, 0.18, 0.32);
const SAND: Vec3 = Vec3::new(0.8, 0.72, 0.5);

const fn cover(tones: [Vec3; 2], relief: f32, parcels: f32, rows: f32, line: Line, blocks: Blocks) -> Cover {
    Cover { tones, relief, parcels, rows, line, blocks }
}

/// EuroSAT's ten classes in its alphabetical order.
const LAND_USE: [Cover; 10] = [
    cover([STRAW, EARTH], 2.0, 3.0, 0.0, Line::None, Blocks::None), // annual crop
    cover([WOOD, GREEN], 14.0, 0.0, 0.0, Line::None, Blocks::None), // forest
    cover([GREEN, STRAW], 7.0, 0.0, 0.0, Line::None, Blocks::None), // herbaceous vegetation
    cover([GREEN, STRAW], 3.0, 2.0, 0.0, Line::Road, Blocks::None), // highway
    cover([STONE, EARTH], 3.0, 0.0, 0.0, Line::None, Blocks::Sheds), // industrial
    cover([GREEN, GREEN], 2.0, 0.0, 0.0, Line::None, Blocks::Trees), // pasture
    cover([EARTH, GREEN], 2.0, 2.0, 9.0, Line::None, Blocks::None), // permanent crop
    cover([GREEN, STONE], 4.0, 0.0, 0.0, Line::None, Blocks::Houses), // residential
    cover([GREEN, WOOD], 4.0, 2.0, 0.0, Line::River, Blocks::None), // river
    cover([WATER, WATER], 3.0, 0.0, 0.0, Line::None, Blocks::None), // sea or lake
];

/// Fifteen of RESISC45's scenes.
const AERIAL_SCENES: [Cover; 15] = [
    cover([GREEN, STONE], 3.0, 0.0, 0.0, Line::Runway, Blocks::None), // airport runway
    cover([WATER, SAND], 3.0, 0.0, 0.0, Line::Shore, Blocks::None),   // beach
    cover([WATER, WATER], 4.0, 0.0, 0.0, Line::Bridge, Blocks::None), // bridge
    cover([WOOD, EARTH], 10.0, 0.0, 0.0, Line::None, Blocks::None),   // chaparral
    cover([GREEN, STONE], 4.0, 0.0, 0.0, Line::Crossing, Blocks::Houses), // intersection
    cover([GREEN, STONE], 4.0, 0.0, 0.0, Line::None, Blocks::Houses), // residential
    cover([SAND, EARTH], 4.0, 0.0, 0.0, Line::None, Blocks::None),    // desert
    cover([WATER, WATER], 4.0, 0.0, 0.0, Line::None, Blocks::Boats),  // harbour
    cover([STONE, STONE], 3.0, 0.0, 0.0, Line::None, Blocks::Cars),   // parking lot
    cover([STONE, EARTH], 3.0, 0.0, 0.0, Line::None, Blocks::Tanks),  // storage tanks
    cover([GREEN, EARTH], 3.0, 3.0, 0.0, Line::None, Blocks::None),   // rectangular farmland
    cover([GREEN, STRAW], 2.0, 3.0, 7.0, Line::None, Blocks::None),   // terraces
    cover([GREEN, WOOD], 4.0, 0.0, 0.0, Line::River, Blocks::Trees),  // river in a park
    cover([GREEN, STONE], 3.0, 0.0, 0.0, Line::Roundabout, Blocks::Trees), // roundabout
    cover([STONE, EARTH], 3.0, 0.0, 0.0, Line::Road, Blocks::Sheds),  // industrial area with a road
];

/// Number of land-use classes.
pub(crate) const LAND_USE_CLASSES: u32 = LAND_USE.len() as u32;
/// Number of aerial scenes.
pub(crate) const AERIAL_SCENE_CLASSES: u32 = AERIAL_SCENES.len() as u32;

/// Draws a tile of a land-use class.
pub(crate) fn draw_land_use(class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    Tile::random(&LAND_USE[class], 1.0, stream).draw(image_size, stream)
}

/// Draws a tile of an aerial scene, at a larger scale than land use.
pub(crate) fn draw_aerial_scene(class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    Tile::random(&AERIAL_SCENES[class], 0.75, stream).draw(image_size, stream)
}

/// One tile: a cover with its light, season and position.
struct Tile<'a> {
    cover: &'a Cover,
    tones: [Vec3; 2],
    zoom: f32,
    turn: Vec2,
    shift: Vec2,
    bend: f32,
    seed: u32,
}

impl<'a> Tile<'a> {
    fn random(cover: &'a Cover, zoom: f32, stream: &mut Stream) -> Self {
        Self {
            cover,
            tones: cover.tones.map(|tone| stream.near(tone, 0.1)),
            zoom: zoom * stream.uniform(0.75, 1.35),
            turn: Vec2::from_angle(stream.angle()),
            shift: stream.point(-0.25, 0.25),
            bend: stream.uniform(0.05, 0.2),
            seed: stream.seed(),
        }
    }

    fn draw(&self, image_size: u32, stream: &mut Stream) -> Vec<u8> {
        let exposure = Exposure::random(stream, 0.1);
        render(image_size, &exposure, stream, |point| {
            let place = self.turn.rotate(point - 0.5) * self.zoom + self.shift;
            let ground = self.ground(place);
            match self.line(place) {
                Some(colour) => colour,
                None => self.block(place).unwrap_or(ground),
            }
        })
    }

    fn ground(&self, place: Vec2) -> Vec3 {
        let cover = self.cover;
        let relief = smoothstep(0.25, 0.75, fractal_noise(place * cover.relief, self.seed));
        let mut share = relief;
        let mut rows = cover.rows;
        if cover.parcels > 0.0 {
            let parcel = cell(place * cover.parcels, 0.35, self.seed);
            share = 0.7 * parcel.value + 0.3 * relief;
            rows *= if parcel.value > 0.2 { 1.0 } else { 0.0 };
            if parcel.margin < 0.07 {
                return WOOD;
            }
        }
        let furrow = if rows > 0.0 { 0.35 * (place.x * rows * 2.0 * PI).sin() } else { 0.0 };
        self.tones[0].lerp(self.tones[1], (share + furrow).clamp(0.0, 1.0)) * (0.8 + 0.4 * relief)
    }

    /// The line's colour, if there is a line at the point.
    fn line(&self, place: Vec2) -> Option<Vec3> {
        let curve = place.y - self.bend * (place.x * 5.0).sin();
        let road = |offset: f32, width: f32| {
            (offset.abs() < width).then(|| if offset.abs() < 0.008 { SAND } else { STONE * 0.55 })
        };
        match self.cover.line {
            Line::None => None,
            Line::Road => road(curve, 0.06),
            Line::Crossing => road(place.y, 0.06).or_else(|| road(place.x, 0.06)),
            Line::Roundabout => {
                let ring = (place.length() - 0.2).abs();
                let arm = place.length() > 0.2 && place.x.abs().min(place.y.abs()) < 0.04;
                (ring < 0.06 || arm).then_some(STONE * 0.55)
            }
            Line::River => (curve.abs() < 0.11).then_some(WATER),
            Line::Runway => {
                let stripe = place.y.abs() < 0.012 && (place.x * 12.0).rem_euclid(1.0) < 0.6;
                (place.y.abs() < 0.11).then_some(if stripe { Vec3::ONE } else { Vec3::splat(0.3) })
            }
            Line::Shore => {
                let surf = curve + 0.05 * value_noise(place * 12.0, self.seed);
                (surf < 0.04).then_some(if surf > 0.0 { Vec3::splat(0.9) } else { WATER })
            }
            Line::Bridge => {
                let bank = place.x.abs() > 0.32 + self.bend * (place.y * 6.0).sin() * 0.5;
                road(place.y, 0.07)
                    .or_else(|| bank.then(|| GREEN * (0.6 + value_noise(place * 9.0, self.seed))))
            }
        }
    }

    /// The colour of a block, if there is one at the point: an item of a jittered grid, rectangular or round.
    fn block(&self, place: Vec2) -> Option<Vec3> {
        let (pitch, half, filling, round) = match self.cover.blocks {
            Blocks::None => return None,
            Blocks::Trees => (6.0, Vec2::splat(0.28), 0.35, true),
            Blocks::Houses => (6.5, Vec2::new(0.32, 0.25), 0.8, false),
            Blocks::Sheds => (3.0, Vec2::new(0.4, 0.3), 0.85, false),
            Blocks::Cars => (9.0, Vec2::new(0.38, 0.2), 0.75, false),
            Blocks::Tanks => (3.5, Vec2::splat(0.36), 0.8, true),
            Blocks::Boats => (8.0, Vec2::new(0.42, 0.16), 0.7, false),
        };
        let grid = place * pitch;
        let own = cell(grid.floor() + 0.5, 0.0, self.seed).value;
        let offset = grid - grid.floor() - 0.5;
        let inside =
            if round { offset.length() < half.x } else { offset.x.abs() < half.x && offset.y.abs() < half.y };
        if own > filling || !inside {
            return None;
        }
        let tone = own / filling;
        let shade = if offset.y > 0.0 { 0.8 } else { 1.0 };
        Some(match self.cover.blocks {
            Blocks::Trees => WOOD,
            Blocks::Houses => Vec3::new(0.5 + 0.3 * tone, 0.3, 0.2) * shade,
            Blocks::Sheds => Vec3::splat(0.55 + 0.4 * tone) * shade,
            Blocks::Tanks => Vec3::splat(if offset.length() < 0.28 { 0.95 } else { 0.6 }),
            _ => crate::synthetic::draw::choices::hsv(tone, 0.5 * tone, 0.95),
        })
    }
}
