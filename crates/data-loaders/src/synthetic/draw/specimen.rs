//! Specimens of one kind: the synthetic stand-ins of the fine-grained datasets.
//!
//! All classes of a kind share one body plan and differ in small parts: a beak, a wing bar, a mask, the slope of a rear
//! window. Colours, pose, light and background are independent of the class.

use glam::{Vec2, Vec3};

use crate::random::Stream;
use crate::registry::SpecimenKind;
use crate::synthetic::draw::choices::Choices as _;
use crate::synthetic::draw::outline::Pose;
use crate::synthetic::draw::paint::Clutter;
use crate::synthetic::draw::raster::{Exposure, render};

impl SpecimenKind {
    /// Number of classes.
    pub(crate) fn classes(self) -> u32 {
        match self {
            Self::Bird | Self::Dog => 16,
            Self::Songbird => 18,
            Self::Car => 20,
        }
    }

    /// Draws one image of the class.
    pub(crate) fn draw(self, class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
        let has = |bit: usize| class >> bit & 1 == 1;
        match self {
            Self::Bird => {
                let (beak, tail) = (if has(0) { 0.62 } else { 0.24 }, if has(1) { 0.75 } else { 0.3 });
                Bird { beak, tail, cap: has(2), bars: has(3), ..Bird::PLAIN }.draw(image_size, stream)
            }
            Self::Songbird => {
                let breast = [Breast::Plain, Breast::Banded, Breast::Spotted][class % 3];
                let crest = [0.0, 0.3, -0.3][class / 3 % 3];
                Bird { breast, crest, stripe: class / 9 == 1, ..Bird::PLAIN }.draw(image_size, stream)
            }
            Self::Dog => {
                Dog { hanging: has(0), broad: has(1), mask: has(2), blaze: has(3) }.draw(image_size, stream)
            }
            Self::Car => {
                let body = BODIES[class % 5];
                Car { body, spokes: class / 5 % 2 == 1, pillar: class / 10 == 1 }.draw(image_size, stream)
            }
        }
    }
}

/// A pose with little variation, and a mirror flag: specimens are seen from one side or the other.
struct View {
    pose: Pose,
    mirrored: bool,
}

impl View {
    fn random(stream: &mut Stream, scale: (f32, f32), tilt: f32) -> Self {
        let pose = Pose {
            centre: stream.point(0.44, 0.56),
            scale: stream.uniform(scale.0, scale.1),
            rotation: stream.uniform(-tilt, tilt),
            stretch: stream.uniform(0.9, 1.1),
        };
        Self { pose, mirrored: stream.chance(0.5) }
    }

    /// The point in the specimen's own coordinates: x forward, y down.
    fn local(&self, point: Vec2) -> Vec2 {
        let local = self.pose.local(point);
        if self.mirrored { Vec2::new(-local.x, local.y) } else { local }
    }
}

/// Whether a point is inside an axis-aligned ellipse.
fn in_ellipse(point: Vec2, centre: (f32, f32), radii: (f32, f32)) -> bool {
    ((point - Vec2::from(centre)) / Vec2::from(radii)).length_squared() < 1.0
}

/// Whether a point is inside a bar from `start` to `end` whose width changes linearly from the first of `widths` to the
/// second.
fn in_wedge(point: Vec2, start: (f32, f32), end: (f32, f32), widths: (f32, f32)) -> bool {
    let (start, end) = (Vec2::from(start), Vec2::from(end));
    let along = (point - start).dot(end - start) / (end - start).length_squared();
    let across = (point - start - (end - start) * along).length();
    (0.0..=1.0).contains(&along) && across < 0.5 * (widths.0 + (widths.1 - widths.0) * along)
}

/// Pattern of a bird's breast.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Breast {
    Plain,
    Banded,
    Spotted,
}

struct Bird {
    /// Length of the beak.
    beak: f32,
    /// Length of the tail.
    tail: f32,
    cap: bool,
    bars: bool,
    breast: Breast,
    /// Length of the crest feathers, swept back if negative; 0 for none.
    crest: f32,
    stripe: bool,
}

impl Bird {
    const PLAIN: Self = Self {
        beak: 0.36,
        tail: 0.5,
        cap: false,
        bars: false,
        breast: Breast::Plain,
        crest: 0.0,
        stripe: false,
    };

    fn draw(&self, image_size: u32, stream: &mut Stream) -> Vec<u8> {
        let view = View::random(stream, (0.36, 0.44), 0.25);
        let back = stream.colour((0.2, 0.8), (0.35, 0.8));
        let belly = back.lerp(Vec3::ONE, stream.uniform(0.45, 0.75));
        let colours = Plumage { back, belly, wing: back * stream.uniform(0.55, 0.75) };
        let beak = stream.near(Vec3::new(0.75, 0.55, 0.15), 0.15);
        let clutter = Clutter::random(stream);
        let exposure = Exposure::random(stream, 0.08);
        render(image_size, &exposure, stream, |point| {
            let local = view.local(point);
            if in_wedge(local, (0.7, -0.3), (0.72 + self.beak, -0.26), (0.2, 0.04)) {
                return beak;
            }
            self.head(local, &colours).or_else(|| self.body(local, &colours)).unwrap_or_else(|| {
                let tail = in_wedge(local, (-0.4, 0.0), (-0.45 - self.tail, 0.22), (0.3, 0.2));
                let leg = in_wedge(local, (0.05, 0.3), (0.1, 0.75), (0.06, 0.06));
                if tail {
                    colours.wing
                } else if leg {
                    beak * 0.6
                } else {
                    clutter.colour(point)
                }
            })
        })
    }

    fn head(&self, local: Vec2, colours: &Plumage) -> Option<Vec3> {
        let crest = self.crest != 0.0
            && in_wedge(
                local,
                (0.46, -0.5),
                (0.3 - self.crest.min(0.0).abs(), -0.5 - self.crest.abs()),
                (0.26, 0.06),
            );
        if !crest && !in_ellipse(local, (0.5, -0.3), (0.27, 0.27)) {
            return None;
        }
        let eye = in_ellipse(local, (0.58, -0.34), (0.07, 0.07));
        let striped = self.stripe && (local.y + 0.33).abs() < 0.07;
        let capped = self.cap && local.y < -0.4;
        Some(if eye || striped || capped { Vec3::splat(0.05) } else { colours.back })
    }

    fn body(&self, local: Vec2, colours: &Plumage) -> Option<Vec3> {
        if in_ellipse(local, (-0.12, 0.02), (0.42, 0.19)) {
            let barred = self.bars && ((local.x + 0.02).abs() < 0.06 || (local.x + 0.24).abs() < 0.06);
            return Some(if barred { Vec3::ONE } else { colours.wing });
        }
        if !in_ellipse(local, (0.0, 0.08), (0.58, 0.36)) {
            return None;
        }
        let dark = match self.breast {
            Breast::Plain => false,
            Breast::Banded => (local.x - 0.36).abs() < 0.07,
            Breast::Spotted => local.x > -0.3 && (local.x * 19.0).sin() * (local.y * 19.0).sin() > 0.35,
        };
        Some(match dark {
            true => Vec3::splat(0.12),
            false if local.y > 0.1 || local.x > 0.25 => colours.belly,
            false => colours.back,
        })
    }
}

struct Plumage {
    back: Vec3,
    belly: Vec3,
    wing: Vec3,
}

struct Dog {
    hanging: bool,
    broad: bool,
    mask: bool,
    blaze: bool,
}

impl Dog {
    fn draw(&self, image_size: u32, stream: &mut Stream) -> Vec<u8> {
        let view = View::random(stream, (0.36, 0.44), 0.3);
        let coat = stream.near(Vec3::new(0.68, 0.48, 0.3), 0.22);
        let light = coat.lerp(Vec3::ONE, 0.7);
        let ear = coat * stream.uniform(0.5, 0.75);
        let clutter = Clutter::random(stream);
        let exposure = Exposure::random(stream, 0.08);
        let muzzle = if self.broad { (0.44, 0.3) } else { (0.24, 0.34) };
        render(image_size, &exposure, stream, |point| {
            let local = view.local(point);
            let side = Vec2::new(local.x.abs(), local.y);
            if in_ellipse(local, (0.0, 0.28), (0.13, 0.1)) || in_ellipse(side, (0.3, -0.18), (0.09, 0.09)) {
                return Vec3::splat(0.04);
            }
            if self.hanging && in_ellipse(side, (0.74, 0.1), (0.2, 0.55)) {
                return ear;
            }
            if in_ellipse(local, (0.0, 0.45), muzzle) {
                return light;
            }
            if in_ellipse(local, (0.0, 0.05), (0.68, 0.72)) {
                let masked = self.mask && in_ellipse(side, (0.3, -0.18), (0.26, 0.2));
                let blazed = self.blaze && local.x.abs() < 0.1 && local.y < 0.2;
                return if blazed {
                    light
                } else if masked {
                    coat * 0.3
                } else {
                    coat
                };
            }
            let pricked = !self.hanging && in_wedge(side, (0.42, -0.4), (0.6, -1.0), (0.5, 0.05));
            if pricked { ear } else { clutter.colour(point) }
        })
    }
}

/// Where the upper part of a car begins and ends, from the back: bottom and top, top and bottom.
type Body = [f32; 4];

/// Saloon, hatchback, estate, coupe and pickup.
const BODIES: [Body; 5] = [
    [-0.62, -0.36, 0.15, 0.5],
    [-0.92, -0.66, 0.15, 0.5],
    [-0.98, -0.94, 0.15, 0.5],
    [-0.92, -0.16, 0.05, 0.5],
    [-0.14, -0.08, 0.2, 0.5],
];

struct Car {
    body: Body,
    spokes: bool,
    pillar: bool,
}

impl Car {
    fn draw(&self, image_size: u32, stream: &mut Stream) -> Vec<u8> {
        let view = View::random(stream, (0.42, 0.48), 0.12);
        let paint = stream.colour((0.2, 0.9), (0.35, 0.95));
        let glass = stream.near(Vec3::new(0.15, 0.2, 0.25), 0.08);
        let road = stream.near(Vec3::splat(0.35), 0.1);
        let clutter = Clutter::random(stream);
        let exposure = Exposure::random(stream, 0.08);
        render(image_size, &exposure, stream, |point| {
            let local = view.local(point);
            self.wheel(local)
                .or_else(|| self.shell(local, paint, glass))
                .unwrap_or_else(|| if local.y > 0.4 { road } else { clutter.colour(point) })
        })
    }

    fn wheel(&self, local: Vec2) -> Option<Vec3> {
        let hub = Vec2::new(local.x.abs() - 0.58, local.y - 0.3);
        let radius = hub.length();
        if radius > 0.22 {
            return None;
        }
        let rim = radius < 0.15 && (!self.spokes || hub.x.abs().min(hub.y.abs()) < 0.035);
        Some(if rim { Vec3::splat(0.8) } else { Vec3::splat(0.06) })
    }

    fn shell(&self, local: Vec2, paint: Vec3, glass: Vec3) -> Option<Vec3> {
        if local.x.abs() < 1.0 && (-0.12..0.3).contains(&local.y) {
            let lamp = (local.x > 0.88 || local.x < -0.9) && local.y < 0.03;
            return Some(if lamp { Vec3::new(1.0, 0.9, 0.6) } else { paint });
        }
        let share = (-0.12 - local.y) / 0.38;
        if !(0.0..=1.0).contains(&share) {
            return None;
        }
        let [back, back_top, front_top, front] = self.body;
        let (start, end) = (back + (back_top - back) * share, front + (front_top - front) * share);
        if !(start..=end).contains(&local.x) {
            return None;
        }
        let framed = local.x - start < 0.07 || end - local.x < 0.07 || share > 0.82;
        let pillar = |x: f32| (local.x - x).abs() < 0.07;
        let middle = (back_top + front_top) / 2.0;
        let barred = self.pillar && pillar(middle);
        Some(if framed || barred { paint } else { glass })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_classes_differ_in_few_pixels_and_all_are_distinct() {
        for kind in [SpecimenKind::Bird, SpecimenKind::Songbird, SpecimenKind::Dog, SpecimenKind::Car] {
            let draw = |class| kind.draw(class, 32, &mut Stream::new("test", &[7]));
            let pictures: Vec<_> = (0..kind.classes() as usize).map(draw).collect();
            for (class, picture) in pictures.iter().enumerate() {
                for other in &pictures[..class] {
                    let changed =
                        picture.iter().zip(other).filter(|(one, two)| one.abs_diff(**two) > 40).count();
                    assert!(changed >= 12, "{kind:?}: class {class} looks like another");
                    assert!(changed < 32 * 32 * 3 * 3 / 10, "{kind:?}: {changed} values of class {class}");
                }
            }
        }
    }
}
