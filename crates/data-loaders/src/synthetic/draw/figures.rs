//! A few plain figures on a uniform background, one in each quarter of the image: the subject of the `mini/` questions
//! about images. Shapes and colours differ within an image, so "the red one" and "the circle" each identify one figure.

use glam::{Vec2, Vec3};

use crate::random::Stream;
use crate::synthetic::draw::choices::Choices as _;
use crate::synthetic::draw::noise::fractal_noise;
use crate::synthetic::draw::outline::{Outline, Pose};
use crate::synthetic::draw::raster::{Exposure, render};

/// Shape names, with symmetry and exponents of their superformula.
const SHAPES: [(&str, [f32; 4]); 4] = [
    ("circle", [4.0, 2.0, 2.0, 2.0]),
    ("square", [4.0, 20.0, 20.0, 20.0]),
    ("star", [5.0, 0.55, 0.9, 0.9]),
    ("triangle", [3.0, 4.5, 10.0, 10.0]),
];

/// Colour names and values.
const COLOURS: [(&str, Vec3); 6] = [
    ("black", Vec3::new(0.06, 0.06, 0.07)),
    ("blue", Vec3::new(0.12, 0.25, 0.85)),
    ("green", Vec3::new(0.1, 0.6, 0.15)),
    ("red", Vec3::new(0.85, 0.12, 0.1)),
    ("white", Vec3::new(0.97, 0.97, 0.95)),
    ("yellow", Vec3::new(0.95, 0.85, 0.1)),
];

/// Number of shapes.
pub(crate) const SHAPE_COUNT: usize = SHAPES.len();
/// Number of colours.
pub(crate) const COLOUR_COUNT: usize = COLOURS.len();

/// Names of the quarters, row by row.
pub(crate) const QUARTERS: [&str; 4] = ["top left", "top right", "bottom left", "bottom right"];

/// The name of a shape.
pub(crate) fn shape_name(shape: usize) -> &'static str {
    SHAPES[shape].0
}

/// The name of a colour.
pub(crate) fn colour_name(colour: usize) -> &'static str {
    COLOURS[colour].0
}

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figure {
    /// Index of the shape.
    pub(crate) shape: usize,
    /// Index of the colour.
    pub(crate) colour: usize,
    /// Index of the quarter.
    pub(crate) quarter: usize,
}

impl Figure {
    /// `red circle`.
    pub(crate) fn name(self) -> String {
        format!("{} {}", colour_name(self.colour), shape_name(self.shape))
    }
}

/// Random figures, no two with the same shape, colour or quarter.
pub(crate) fn figures(count: usize, stream: &mut Stream) -> Vec<Figure> {
    let [shapes, colours, quarters] =
        [SHAPE_COUNT, COLOUR_COUNT, QUARTERS.len()].map(|number| stream.permutation(number));
    let figure = |at: usize| Figure { shape: shapes[at], colour: colours[at], quarter: quarters[at] };
    (0..count.min(SHAPE_COUNT)).map(figure).collect()
}

/// Draws figures in good light, or too dark to recognise anything.
pub(crate) fn draw(figures: &[Figure], dark: bool, image_size: u32, stream: &mut Stream) -> Vec<u8> {
    let painted: Vec<(Outline, Pose, Vec3)> = figures.iter().map(|figure| paint(*figure, stream)).collect();
    let tone = stream.uniform(0.42, 0.6);
    let ground = stream.near(Vec3::splat(tone), 0.06);
    let (seed, frequency) = (stream.seed(), stream.uniform(2.0, 5.0));
    let light = if dark { stream.uniform(0.0, 0.03) } else { 1.0 };
    let exposure = Exposure::random(stream, 0.08);
    render(image_size, &exposure, stream, |point| {
        let covering = painted.iter().find(|(outline, pose, _)| outline.contains(pose.local(point)));
        let colour = match covering {
            Some((_, _, colour)) => *colour,
            None => ground * (0.9 + 0.2 * fractal_noise(point * frequency, seed)),
        };
        colour * light
    })
}

/// A figure's outline, pose and colour.
fn paint(figure: Figure, stream: &mut Stream) -> (Outline, Pose, Vec3) {
    let (_, [symmetry, n1, n2, n3]) = SHAPES[figure.shape];
    let outline = Outline::superformula(symmetry, n1, n2, n3);
    let middle = Vec2::new((figure.quarter % 2) as f32, (figure.quarter / 2) as f32) * 0.5 + 0.25;
    let pose = Pose {
        centre: middle + stream.point(-0.02, 0.02),
        scale: stream.uniform(0.2, 0.24),
        rotation: stream.uniform(-0.2, 0.2),
        stretch: 1.0,
    };
    (outline, pose, stream.near(COLOURS[figure.colour].1, 0.05))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_in_an_image_differ_in_every_property() {
        for index in 0..50 {
            let figures = figures(4, &mut Stream::new("test", &[index]));
            for (at, one) in figures.iter().enumerate() {
                for other in &figures[at + 1..] {
                    assert!(
                        one.shape != other.shape
                            && one.colour != other.colour
                            && one.quarter != other.quarter
                    );
                }
            }
        }
    }

    #[test]
    fn a_figure_shows_its_colour_in_its_quarter_but_not_in_the_dark() {
        for (index, quarter) in (0..40).map(|index| (index, index as usize % 4)) {
            let stream = &mut Stream::new("test", &[index]);
            let figure = Figure { shape: index as usize / 4 % 4, colour: 3, quarter };
            let picture = draw(&[figure], false, 32, stream);
            let (x, y) = (8 + 16 * (quarter % 2), 8 + 16 * (quarter / 2));
            let pixel = &picture[(y * 32 + x) * 3..][..3];
            assert!(pixel[0] > 140 && pixel[1] < 90 && pixel[2] < 90, "{pixel:?}");
            let dark = draw(&[figure], true, 32, stream);
            assert!(dark.iter().all(|value| *value < 40));
        }
    }
}
