//! A rectangle with two linear axes, shared by the figures with several panels.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::figure::canvas::{Anchor, Failure, line, style, text, upward};
use crate::figure::labels::{Area, Pixels};
use crate::figure::palette::{GUIDE, SECONDARY, qualitative};

pub(super) const TICK_SIZE: u32 = 20;
pub(super) const LABEL_SIZE: u32 = 23;
pub(super) const TITLE_SIZE: u32 = 30;

/// One panel: its position, and the values at its edges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel {
    pub(super) frame: Area,
    pub(super) x: (f64, f64),
    pub(super) y: (f64, f64),
}

impl Panel {
    /// Pixel coordinates of a pair of values.
    pub(super) fn place(&self, (x, y): (f64, f64)) -> Pixels {
        (self.x_of(x), self.y_of(y))
    }

    pub(super) fn x_of(&self, x: f64) -> i32 {
        let Area { left, right, .. } = self.frame;
        left + (share(x, self.x) * f64::from(right - left)).round() as i32
    }

    pub(super) fn y_of(&self, y: f64) -> i32 {
        let Area { top, bottom, .. } = self.frame;
        bottom - (share(y, self.y) * f64::from(bottom - top)).round() as i32
    }

    /// Horizontal guides with their values, left of the panel where `labelled`.
    pub(super) fn draw_y_axis<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        labelled: bool,
    ) -> Result<(), Failure<B>> {
        for (value, name) in ticks(self.y, 6) {
            let y = self.y_of(value);
            line(area, (self.frame.left, y), (self.frame.right, y), GUIDE.stroke_width(1))?;
            if labelled {
                text(area, &name, &style(TICK_SIZE, Anchor::Right), (self.frame.left - 10, y))?;
            }
        }
        line(
            area,
            (self.frame.left, self.frame.top),
            (self.frame.left, self.frame.bottom),
            BLACK.stroke_width(2),
        )
    }

    /// The lower edge with its values.
    pub(super) fn draw_x_axis<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        most_ticks: usize,
    ) -> Result<(), Failure<B>> {
        let bottom = self.frame.bottom;
        line(area, (self.frame.left, bottom), (self.frame.right, bottom), BLACK.stroke_width(2))?;
        for (value, name) in ticks(self.x, most_ticks) {
            let x = self.x_of(value);
            line(area, (x, bottom), (x, bottom + 8), BLACK.stroke_width(2))?;
            text(area, &name, &style(TICK_SIZE, Anchor::Middle), (x, bottom + 24))?;
        }
        Ok(())
    }

    /// Axis labels: one below the panel, one left of it.
    pub(super) fn draw_names<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        below: &str,
        left: &str,
    ) -> Result<(), Failure<B>> {
        let Area { left: x, top, right, bottom } = self.frame;
        text(area, below, &style(LABEL_SIZE, Anchor::Middle), ((x + right) / 2, bottom + 58))?;
        text(area, left, &upward(LABEL_SIZE), (x - 84, (top + bottom) / 2))
    }

    /// A line through points, clipped to the panel's width.
    pub(super) fn draw_line<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        points: &[(f64, f64)],
        colour: RGBColor,
    ) -> Result<(), Failure<B>> {
        let pixels: Vec<Pixels> = points.iter().map(|&point| self.place(point)).collect();
        area.draw(&PathElement::new(pixels, colour.stroke_width(3)))
    }
}

/// The marker of the n-th series, so that series differ by more than colour: circle, square, triangle, ring, cross.
pub(super) fn draw_mark<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    index: usize,
    (x, y): Pixels,
) -> Result<(), Failure<B>> {
    const R: i32 = 7;
    let colour = qualitative(index);
    match index % 5 {
        0 => area.draw(&Circle::new((x, y), R, colour.filled())),
        1 => area.draw(&Rectangle::new([(x - R, y - R), (x + R, y + R)], colour.filled())),
        2 => area.draw(&Polygon::new(
            vec![(x, y - R - 2), (x - R - 1, y + R), (x + R + 1, y + R)],
            colour.filled(),
        )),
        3 => {
            area.draw(&Circle::new((x, y), R, WHITE.filled()))?;
            area.draw(&Circle::new((x, y), R, colour.stroke_width(3)))
        }
        _ => {
            line(area, (x - R, y - R), (x + R, y + R), colour.stroke_width(3))?;
            line(area, (x - R, y + R), (x + R, y - R), colour.stroke_width(3))
        }
    }
}

/// Legend: names of series with their markers, from left to right, in two rows around `y` where one is too wide.
pub(super) fn draw_legend<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    names: &[String],
    (left, y): Pixels,
) -> Result<(), Failure<B>> {
    const ROW: i32 = 26;
    let width_of = |name: &String| -> Result<i32, Failure<B>> {
        Ok(90 + area.estimate_text_size(name, &style(LABEL_SIZE, Anchor::Left))?.0 as i32)
    };
    let widths: Vec<i32> = names.iter().map(width_of).collect::<Result<_, _>>()?;
    let fits = left + widths.iter().sum::<i32>() <= area.dim_in_pixel().0 as i32;
    let of_first_row = if fits { names.len() } else { names.len().div_ceil(2) };
    let (mut x, mut y) = (left, if fits { y } else { y - ROW / 2 });
    for (index, (name, width)) in names.iter().zip(widths).enumerate() {
        if index == of_first_row {
            (x, y) = (left, y + ROW);
        }
        line(area, (x, y), (x + 44, y), qualitative(index).stroke_width(3))?;
        draw_mark(area, index, (x + 22, y))?;
        text(area, name, &style(LABEL_SIZE, Anchor::Left), (x + 54, y))?;
        x += width;
    }
    Ok(())
}

/// Approximate width of a text in pixels, for layout before there is a canvas.
pub(super) fn width_of(text: &str, size: u32) -> i32 {
    (0.45 * f64::from(size) * text.chars().count() as f64).ceil() as i32
}

/// Title and, in grey, a subtitle.
pub(super) fn draw_title<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    subtitle: &str,
    left: i32,
) -> Result<(), Failure<B>> {
    text(area, title, &style(TITLE_SIZE, Anchor::Left), (left, 40))?;
    text(area, subtitle, &style(LABEL_SIZE, Anchor::Left).color(&SECONDARY), (left, 80))
}

/// Round values within a range, at most `most` of them, with their labels.
pub(super) fn ticks((low, high): (f64, f64), most: usize) -> Vec<(f64, String)> {
    let rough = (high - low) / most.max(1) as f64;
    if !(rough.is_finite() && rough > 0.0) {
        return Vec::new();
    }
    let decade = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade).into_iter().find(|&step| step >= rough);
    let step = step.unwrap_or(10.0 * decade);
    let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last)
        .map(|place| place as f64 * step)
        .map(|value| (value, format!("{value:.decimals$}")))
        .collect()
}

/// The range of the values, extended by a fraction of its width; (0, 1) without values.
pub(super) fn range(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0.0, 1.0);
    }
    let wide = if high > low { (high - low) * margin } else { high.abs().max(1.0) * 0.1 };
    (low - wide, high + wide)
}

fn share(value: f64, (from, to): (f64, f64)) -> f64 {
    ((value - from) / (to - from)).clamp(-1.0, 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_range() {
        let names = |range| ticks(range, 5).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(names((0.0, 1.0)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(names((37.0, 62.0)), ["40", "45", "50", "55", "60"]);
        assert!(ticks((3.0, 3.0), 5).is_empty());
    }
}
