//! The synthetic stand-ins: every `mini/<set>` is one of seven generators with a parameter, chosen in
//! `datasets/<set>.yaml`.
//!
//! An image is a function of (task, split, index) only, so images can be generated on any thread in any order. Seven
//! generators implement `MiniTask`: `composition`, `specimen`, `texture` (with `land`), `glyph`, `tissue`, `sprite`,
//! and `scene`, whose ray caster (`scene`, `solid`) is used by `tabletop`, `turntable`, `maze` and `road`. `figures` is
//! the subject of the questions about images. They are built on `choices` (randomness), `raster` (pixels), `outline`,
//! `paint` and `noise`.

pub(crate) mod choices;
mod composition;
pub(crate) mod figures;
pub(crate) mod glyph;
mod land;
mod maze;
pub(crate) mod noise;
pub(crate) mod outline;
mod paint;
pub(crate) mod pictures;
pub(crate) mod raster;
mod road;
pub(crate) mod scene;
pub(crate) mod solid;
mod specimen;
mod sprite;
mod tabletop;
mod texture;
mod tissue;
mod turntable;

use crate::random::Stream;
use crate::registry::{MiniTask, SceneQuestion};
use crate::split::Part;

impl MiniTask {
    /// Number of classes of the synthetic task; it may be smaller than the real dataset's.
    pub fn classes(self) -> u32 {
        match self {
            Self::Composition { portrayal } => portrayal.classes(),
            Self::Specimen { kind } => kind.classes(),
            Self::Texture { surface } => surface.classes(),
            Self::Glyph {} => glyph::CLASSES,
            Self::Tissue { question } => question.classes(),
            Self::Sprite { .. } => sprite::CLASSES,
            Self::Scene { question } => match question {
                SceneQuestion::ObjectCount => tabletop::COUNT_CLASSES,
                SceneQuestion::ClosestObjectDistance => tabletop::DEPTH_CLASSES,
                SceneQuestion::RewardDistance => maze::CLASSES,
                SceneQuestion::ClosestVehicleDistance => road::CLASSES,
                SceneQuestion::Azimuth => turntable::AZIMUTHS,
                SceneQuestion::Elevation => turntable::ELEVATIONS,
            },
        }
    }

    /// Number of equally frequent cases: the classes, or the values of a factor that is binned into classes.
    fn cases(self) -> usize {
        match self {
            Self::Sprite { factor } => factor.values(),
            _ => self.classes() as usize,
        }
    }

    /// The case of an image: each run of `cases` images contains every case once, in its own random order.
    fn case(self, name: &str, part: Part, index: usize) -> usize {
        let cases = self.cases();
        let run = (index / cases) as u64;
        Stream::new(name, &[part as u64, run, 0]).permutation(cases)[index % cases]
    }

    /// The label of an image of the task called `name`.
    pub(crate) fn label(self, name: &str, part: Part, index: usize) -> u32 {
        let case = self.case(name, part, index);
        match self {
            Self::Sprite { factor } => factor.label(case),
            _ => case as u32,
        }
    }

    /// Draws an image of the task called `name`: `image_size` x `image_size` RGB bytes, interleaved.
    pub(crate) fn draw(self, name: &str, part: Part, index: usize, image_size: u32) -> Vec<u8> {
        let case = self.case(name, part, index);
        let stream = &mut Stream::new(name, &[part as u64, index as u64, 1]);
        match self {
            Self::Composition { portrayal } => portrayal.draw(case, image_size, stream),
            Self::Specimen { kind } => kind.draw(case, image_size, stream),
            Self::Texture { surface } => surface.draw(case, image_size, stream),
            Self::Glyph {} => glyph::draw(case, image_size, stream),
            Self::Tissue { question } => question.draw(case, image_size, stream),
            Self::Sprite { factor } => factor.draw(case, part, image_size, stream),
            Self::Scene { question } => {
                let draw = match question {
                    SceneQuestion::ObjectCount => tabletop::draw_count,
                    SceneQuestion::ClosestObjectDistance => tabletop::draw_distance,
                    SceneQuestion::RewardDistance => maze::draw,
                    SceneQuestion::ClosestVehicleDistance => road::draw,
                    SceneQuestion::Azimuth => turntable::draw_azimuth,
                    SceneQuestion::Elevation => turntable::draw_elevation,
                };
                draw(case, image_size, stream)
            }
        }
    }
}
