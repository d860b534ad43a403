//! The drawing surface of every figure: one font, two formats, pixel coordinates.
//!
//! The font is bundled (assets/fonts), because a fresh machine may have none. It is registered under
//! the generic name `sans-serif`: an SVG keeps its text as text, in whatever font its reader prefers.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontTransform, register_font};

use crate::error::ReportError;
use crate::figure::pgf::PgfBackend;
use crate::files::write_atomically;

const FONT_NAME: &str = "sans-serif";

static FONT: &[u8] = include_bytes!("../../../../assets/fonts/LiberationSans-Regular.ttf");

/// The error of a drawing backend.
pub(super) type Failure<B> = DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>;

/// A drawing, independent of its output format.
pub(super) trait Figure {
    /// What it shows, in a sentence: the alternative text.
    fn title(&self) -> String;

    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// Draws it on a white area of that size.
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>>;
}

/// Writes `<stem>.svg` and `<stem>.png`.
pub(super) fn draw(figure: &impl Figure, stem: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let with_ending = |ending: &str| {
        let mut path = stem.as_os_str().to_owned();
        path.push(ending);
        PathBuf::from(path)
    };
    let (svg, png) = (with_ending(".svg"), with_ending(".png"));
    write_atomically(&svg, |scratch| paint(figure, SVGBackend::new(scratch, figure.size())))?;
    write_atomically(&png, |scratch| write_png(figure, scratch))?;
    Ok(vec![svg, png])
}

/// Writes the figure as PNG. plotters' own encoder would bring a second version of the crate `image`.
fn write_png(figure: &impl Figure, path: &Path) -> Result<(), std::io::Error> {
    let (width, height) = figure.size();
    let mut pixels = vec![0; width as usize * height as usize * 3];
    paint(figure, BitMapBackend::with_buffer(&mut pixels, (width, height)))?;
    let (color, format) = (image::ExtendedColorType::Rgb8, image::ImageFormat::Png);
    image::save_buffer_with_format(path, &pixels, width, height, color, format).map_err(std::io::Error::other)
}

/// The figure as SVG text.
pub(super) fn svg(figure: &impl Figure) -> Result<String, std::io::Error> {
    let mut text = String::new();
    paint(figure, SVGBackend::with_string(&mut text, figure.size()))?;
    Ok(text)
}

/// The figure as a `pgfpicture` that is `width` big points wide; it needs the macros of [`crate::figure::pgf::PREAMBLE`].
pub(super) fn pgf(figure: &impl Figure, width: f64) -> Result<String, std::io::Error> {
    let mut text = String::new();
    paint(figure, PgfBackend::new(&mut text, figure.size(), width))?;
    Ok(text)
}

fn paint<B: DrawingBackend>(figure: &impl Figure, backend: B) -> Result<(), std::io::Error> {
    let other = |error: String| std::io::Error::other(format!("the figure cannot be drawn: {error}"));
    provide_font().map_err(other)?;
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(|error| other(error.to_string()))?;
    figure.draw(&area).map_err(|error| other(error.to_string()))?;
    area.present().map_err(|error| other(error.to_string()))
}

fn provide_font() -> Result<(), String> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let registered = *REGISTERED.get_or_init(|| register_font(FONT_NAME, FontStyle::Normal, FONT).is_ok());
    if registered { Ok(()) } else { Err("the bundled font is damaged".into()) }
}

/// Where a text is placed relative to its anchor point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    /// The anchor is the middle of its left edge.
    Left,
    /// The anchor is its centre.
    Middle,
    /// The anchor is the middle of its right edge.
    Right,
}

/// Black text of `size` pixels.
pub(super) fn style(size: u32, anchor: Anchor) -> TextStyle<'static> {
    let horizontal = match anchor {
        Anchor::Left => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::Right => HPos::Right,
    };
    TextStyle::from((FONT_NAME, size)).pos(Pos::new(horizontal, VPos::Center))
}

/// Text that reads upwards, centred on its anchor.
pub(super) fn upward(size: u32) -> TextStyle<'static> {
    style(size, Anchor::Middle).transform(FontTransform::Rotate270)
}

/// Draws a text.
pub(super) fn text<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    text: &str,
    style: &TextStyle<'_>,
    at: (i32, i32),
) -> Result<(), Failure<B>> {
    area.draw_text(text, style, at)
}

/// Draws a straight line.
pub(super) fn line<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    from: (i32, i32),
    to: (i32, i32),
    style: ShapeStyle,
) -> Result<(), Failure<B>> {
    area.draw(&PathElement::new(vec![from, to], style))
}
