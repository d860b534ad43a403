//! Surface plots of a crop of one weight before and after fine-tuning and of the change, like the paper's illustration
//! of its method.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::figure::canvas::{Anchor, Failure, Figure, style, text};
use crate::figure::labels::Pixels;
use crate::figure::palette::{SECONDARY, diverging};
use crate::figure::plot::{LABEL_SIZE, TICK_SIZE, draw_title};
use crate::load::Stored;
use crate::load::weight_shift::Crop;

const SIZE: (u32, u32) = (1500, 640);
const PANEL_WIDTH: f64 = 460.0;
/// Half the height of the ground plane, and the height in pixels of the largest value above it.
const DEPTH: f64 = 110.0;
const HEIGHT: f64 = 110.0;
const GROUND: f64 = 270.0;

/// One layer's surfaces.
pub(super) struct Surfaces {
    title: String,
    subtitle: String,
    /// Name, values, and the largest absolute value, which is the end of the palette.
    panels: [(&'static str, Vec<Vec<f64>>, f64); 3],
}

impl Surfaces {
    pub(super) fn of(stored: &Stored, layer: &str, crop: &Crop) -> Self {
        let record = &stored.record;
        let wide = |rows: &[Vec<f32>]| -> Vec<Vec<f64>> {
            rows.iter().map(|row| row.iter().map(|&value| f64::from(value)).collect()).collect()
        };
        let (before, after) = (wide(&crop.before), wide(&crop.after));
        let change: Vec<Vec<f64>> = before
            .iter()
            .zip(&after)
            .map(|(before, after)| before.iter().zip(after).map(|(before, after)| after - before).collect())
            .collect();
        // Before and after share a scale; the change, usually smaller, has its own.
        let scale = reach(&before).max(reach(&after));
        let (rows, columns) = crop.shape();
        Self {
            title: format!("{layer}: {rows} x {columns} weights before and after {}", record.method.label),
            subtitle: format!(
                "{}, profile {}, backbone {}, seed {}; right: the change, on its own scale",
                stored.learned(),
                record.profile,
                record.backbone.name,
                record.seed
            ),
            panels: [
                ("before", before, scale),
                ("after", after, scale),
                ("change", change.clone(), reach(&change)),
            ],
        }
    }
}

impl Figure for Surfaces {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        draw_title(area, &self.title, &self.subtitle, 30)?;
        for (index, (name, values, reach)) in self.panels.iter().enumerate() {
            let left = 30.0 + index as f64 * (PANEL_WIDTH + 30.0);
            draw_surface(area, left, values, *reach)?;
            let middle = (left + PANEL_WIDTH / 2.0) as i32;
            text(area, name, &style(LABEL_SIZE, Anchor::Middle), (middle, 560))?;
            let numbers = format!("within ±{reach:.3}");
            text(area, &numbers, &style(TICK_SIZE, Anchor::Middle).color(&SECONDARY), (middle, 594))?;
        }
        Ok(())
    }
}

/// Quadrilaterals between neighbouring weights, drawn from back to front; rows run to the right and down, columns to
/// the left and down.
fn draw_surface<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    left: f64,
    values: &[Vec<f64>],
    reach: f64,
) -> Result<(), Failure<B>> {
    let (rows, columns) = (values.len(), values[0].len());
    let place = |row: usize, column: usize| -> Pixels {
        let (r, c) = (row as f64 / (rows - 1) as f64, column as f64 / (columns - 1) as f64);
        let x = left + PANEL_WIDTH / 2.0 * (1.0 + r - c);
        let y = GROUND + DEPTH * (r + c) - HEIGHT * values[row][column] / reach;
        (x.round() as i32, y.round() as i32)
    };
    for diagonal in 0..rows + columns - 3 {
        for row in 0..rows - 1 {
            let Some(column) = diagonal.checked_sub(row).filter(|&column| column < columns - 1) else {
                continue;
            };
            let corners = [(row, column), (row + 1, column), (row + 1, column + 1), (row, column + 1)];
            let mean = corners.iter().map(|&(row, column)| values[row][column]).sum::<f64>() / 4.0;
            let outline: Vec<Pixels> = corners.iter().map(|&(row, column)| place(row, column)).collect();
            area.draw(&Polygon::new(outline.clone(), diverging(mean / reach).filled()))?;
            let closed: Vec<Pixels> = outline.iter().chain(outline.first()).copied().collect();
            area.draw(&PathElement::new(closed, SECONDARY.mix(0.5).stroke_width(1)))?;
        }
    }
    Ok(())
}

fn reach(values: &[Vec<f64>]) -> f64 {
    values.iter().flatten().map(|value| value.abs()).fold(1e-12, f64::max)
}
