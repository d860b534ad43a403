//! A plotters backend that writes PGF, LaTeX's own graphics: lines stay lines and text is set in the document's font.

use std::convert::Infallible;
use std::fmt::Write;

use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontTransform,
};

use crate::text::latex;

type Result = std::result::Result<(), DrawingErrorKind<Infallible>>;

/// Macros that the commands of every figure use, for the preamble of the document.
pub(crate) const PREAMBLE: &str = "\
\\newcommand\\figmove[2]{\\pgfpathmoveto{\\pgfqpoint{#1bp}{#2bp}}}
\\newcommand\\figline[2]{\\pgfpathlineto{\\pgfqpoint{#1bp}{#2bp}}}
\\newcommand\\figrect[4]{\\pgfpathrectanglecorners{\\pgfqpoint{#1bp}{#2bp}}{\\pgfqpoint{#3bp}{#4bp}}}
\\newcommand\\figcircle[3]{\\pgfpathcircle{\\pgfqpoint{#1bp}{#2bp}}{#3bp}}
\\newcommand\\figcolour[4]{\\definecolor{figure}{RGB}{#1,#2,#3}\\pgfsetcolor{figure}\\pgfsetstrokeopacity{#4}\\pgfsetfillopacity{#4}}
\\newcommand\\figtext[5]{\\pgftext[x=#1bp,y=#2bp,#3]{\\fontsize{#4}{#4}\\selectfont\\sffamily #5}}
";

/// Collects a `pgfpicture` that is `width` big points (1/72 inch) wide.
pub(super) struct PgfBackend<'a> {
    text: &'a mut String,
    size: (u32, u32),
    scale: f64,
    colour: Option<BackendColor>,
}

impl<'a> PgfBackend<'a> {
    /// A picture of a drawing of `size` pixels.
    pub(super) fn new(text: &'a mut String, size: (u32, u32), width: f64) -> Self {
        Self { text, size, scale: width / f64::from(size.0), colour: None }
    }

    fn push(&mut self, command: &str) {
        self.text.push_str(command);
        self.text.push('\n');
    }

    fn length(&self, pixels: f64) -> String {
        format!("{:.2}", pixels * self.scale)
    }

    /// Coordinates as two arguments; y grows upwards in PGF.
    fn point(&self, (x, y): BackendCoord) -> String {
        let up = f64::from(self.size.1) - f64::from(y);
        format!("{{{}}}{{{}}}", self.length(f64::from(x)), self.length(up))
    }

    fn set_colour(&mut self, colour: BackendColor) {
        let same = self.colour.is_some_and(|now| now.rgb == colour.rgb && now.alpha == colour.alpha);
        if !same {
            let (red, green, blue) = colour.rgb;
            self.push(&format!("\\figcolour{{{red}}}{{{green}}}{{{blue}}}{{{:.2}}}", colour.alpha));
            self.colour = Some(colour);
        }
    }

    fn stroke(&mut self, path: &str, style: &impl BackendStyle) -> Result {
        self.set_colour(style.color());
        let width = self.length(f64::from(style.stroke_width()));
        self.push(&format!("\\pgfsetlinewidth{{{width}bp}}{path}\\pgfusepath{{stroke}}"));
        Ok(())
    }

    fn fill(&mut self, path: &str, style: &impl BackendStyle) -> Result {
        self.set_colour(style.color());
        self.push(&format!("{path}\\pgfusepath{{fill}}"));
        Ok(())
    }

    fn path(&self, points: impl IntoIterator<Item = BackendCoord>) -> String {
        let mut path = String::new();
        for (place, point) in points.into_iter().enumerate() {
            let command = if place == 0 { "\\figmove" } else { "\\figline" };
            _ = write!(path, "{command}{}", self.point(point));
        }
        path
    }
}

impl DrawingBackend for PgfBackend<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Result {
        if self.text.is_empty() {
            self.push("\\begin{pgfpicture}");
            let corner = self.point((self.size.0 as i32, 0));
            self.push(&format!("\\figrect{{0}}{{0}}{corner}\\pgfusepath{{use as bounding box}}"));
        }
        Ok(())
    }

    fn present(&mut self) -> Result {
        if !self.text.ends_with("\\end{pgfpicture}\n") {
            self.push("\\end{pgfpicture}");
        }
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Result {
        self.draw_rect((x, y), (x + 1, y + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Result {
        let path = self.path([from, to]);
        self.stroke(&path, style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Result {
        let path = format!("\\figrect{}{}", self.point(upper_left), self.point(bottom_right));
        if fill { self.fill(&path, style) } else { self.stroke(&path, style) }
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Result {
        let path = self.path(path);
        self.stroke(&path, style)
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Result {
        let path = format!("\\figcircle{}{{{}}}", self.point(center), self.length(f64::from(radius)));
        if fill { self.fill(&path, style) } else { self.stroke(&path, style) }
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vert: I,
        style: &S,
    ) -> Result {
        let path = self.path(vert) + "\\pgfpathclose";
        self.fill(&path, style)
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Result {
        self.set_colour(style.color());
        let anchor = style.anchor();
        let mut options = Vec::new();
        options.extend(match anchor.h_pos {
            HPos::Left => Some("left"),
            HPos::Center => None,
            HPos::Right => Some("right"),
        });
        options.extend(match anchor.v_pos {
            VPos::Top => Some("top"),
            VPos::Center => None,
            VPos::Bottom => Some("bottom"),
        });
        options.extend(match style.transform() {
            FontTransform::None => None,
            FontTransform::Rotate90 => Some("rotate=-90"),
            FontTransform::Rotate180 => Some("rotate=180"),
            FontTransform::Rotate270 => Some("rotate=90"),
        });
        let size = format!("{:.1}", style.size() * self.scale);
        let (point, options) = (self.point(at), options.join(","));
        self.push(&format!("\\figtext{point}{{{options}}}{{{size}}}{{{}}}", latex(text)));
        Ok(())
    }

    fn blit_bitmap(&mut self, (x, y): BackendCoord, (width, height): (u32, u32), pixels: &[u8]) -> Result {
        let rows = pixels.chunks_exact(3 * width as usize).take(height as usize).enumerate();
        for (down, row) in rows {
            for (right, pixel) in row.chunks_exact(3).enumerate() {
                let color = BackendColor { alpha: 1.0, rgb: (pixel[0], pixel[1], pixel[2]) };
                self.draw_pixel((x + right as i32, y + down as i32), color)?;
            }
        }
        Ok(())
    }
}
