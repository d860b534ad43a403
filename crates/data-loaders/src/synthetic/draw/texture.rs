//! Surfaces without an object: the synthetic stand-ins of DTD (materials) and of the datasets seen from above.

use crate::random::Stream;
use crate::registry::Surface;
use crate::synthetic::draw::land::{
    AERIAL_SCENE_CLASSES, LAND_USE_CLASSES, draw_aerial_scene, draw_land_use,
};
use crate::synthetic::draw::paint::{Paint, Pattern};
use crate::synthetic::draw::raster::{Exposure, render};

impl Surface {
    /// Number of classes.
    pub(crate) fn classes(self) -> u32 {
        match self {
            Self::Material => Pattern::MATERIALS.len() as u32,
            Self::LandUse => LAND_USE_CLASSES,
            Self::AerialScene => AERIAL_SCENE_CLASSES,
        }
    }

    /// Draws one image of the class.
    pub(crate) fn draw(self, class: usize, image_size: u32, stream: &mut Stream) -> Vec<u8> {
        match self {
            Self::Material => material(Pattern::MATERIALS[class], image_size, stream),
            Self::LandUse => draw_land_use(class, image_size, stream),
            Self::AerialScene => draw_aerial_scene(class, image_size, stream),
        }
    }
}

/// A pattern that fills the image, under uneven light.
fn material(pattern: Pattern, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let frequency = stream.uniform(4.0, 8.0);
    let paint = Paint::random(stream, pattern, frequency);
    let light = glam::Vec2::from_angle(stream.angle()) * stream.uniform(0.0, 0.5);
    let exposure = Exposure::random(stream, 0.15);
    render(image_size, &exposure, stream, |point| paint.colour(point - 0.5) * (1.0 + light.dot(point - 0.5)))
}
