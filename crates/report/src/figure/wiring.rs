//! Which scaling vector reaches which projection: blocks from left to right, their projections from
//! top to bottom, an arrow from each vector to the projection that reads it.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::figure::canvas::{Anchor, Failure, Figure, line, style, text};
use crate::figure::labels::Pixels;
use crate::figure::palette::{SECONDARY, qualitative};

/// One projection of a model, in the order of its forward pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WiredSite {
    /// Path of the block that it is in; blocks are columns.
    pub block: String,
    /// The rest of its path.
    pub name: String,
    /// Length of its scaling vector.
    pub channels: i64,
    /// Index of the site whose vector scales its input, and how channels are mapped where that is not one to one.
    pub reads: Option<(usize, Option<String>)>,
}

const BOX: Pixels = (128, 56);
const GAP: Pixels = (44, 22);
const MARGIN: i32 = 24;
/// Height above the boxes, for the title and the arrows that pass over columns.
const HEAD: i32 = 112;
const LEGEND: i32 = 40;
const ARROW: i32 = 6;

/// The figure of one model under one wiring.
#[derive(Debug)]
pub(super) struct WiringFigure<'a> {
    title: &'a str,
    sites: &'a [WiredSite],
    /// Column and row of each site.
    positions: Vec<Pixels>,
}

impl<'a> WiringFigure<'a> {
    pub(super) fn of(title: &'a str, sites: &'a [WiredSite]) -> Self {
        let mut positions: Vec<Pixels> = Vec::with_capacity(sites.len());
        for (index, site) in sites.iter().enumerate() {
            let cell = match (positions.last(), index.checked_sub(1).map(|before| &sites[before].block)) {
                (Some(&(column, row)), Some(block)) if *block == site.block => (column, row + 1),
                (Some(&(column, _)), _) => (column + 1, 0),
                _ => (0, 0),
            };
            positions.push(cell);
        }
        Self { title, sites, positions }
    }

    /// Upper left corner of a box.
    fn corner(&self, index: usize) -> Pixels {
        let (column, row) = self.positions[index];
        (MARGIN + column * (BOX.0 + GAP.0), HEAD + row * (BOX.1 + GAP.1))
    }

    /// The corners of an arrow's path; the last is its head.
    fn path(&self, from: usize, to: usize) -> Vec<Pixels> {
        let ((from_column, from_row), (to_column, to_row)) = (self.positions[from], self.positions[to]);
        let ((x, y), (to_x, to_y)) = (self.corner(from), self.corner(to));
        let middle = BOX.1 / 2;
        if from_column == to_column && to_row == from_row + 1 {
            return vec![(x + BOX.0 / 2, y + BOX.1), (to_x + BOX.0 / 2, to_y)];
        }
        let gap = to_x - GAP.0 / 2;
        if to_column == from_column + 1 {
            return vec![
                (x + BOX.0, y + middle),
                (gap, y + middle),
                (gap, to_y + middle),
                (to_x, to_y + middle),
            ];
        }
        // Above the columns between; arrows from one vector share their path.
        let bus = HEAD - 18;
        let turn = x + BOX.0 + GAP.0 / 2 - 8;
        let exit = if from_row == 0 {
            vec![(x + BOX.0 / 2, y), (x + BOX.0 / 2, bus)]
        } else {
            vec![(x + BOX.0, y + middle), (turn, y + middle), (turn, bus)]
        };
        exit.into_iter().chain([(to_x + BOX.0 / 2, bus), (to_x + BOX.0 / 2, to_y)]).collect()
    }
}

impl Figure for WiringFigure<'_> {
    fn title(&self) -> String {
        self.title.to_owned()
    }

    fn size(&self) -> (u32, u32) {
        let columns = self.positions.iter().map(|cell| cell.0 + 1).max().unwrap_or(1);
        let rows = self.positions.iter().map(|cell| cell.1 + 1).max().unwrap_or(1);
        let width = (2 * MARGIN + columns * (BOX.0 + GAP.0) - GAP.0).max(620);
        let height = HEAD + rows * (BOX.1 + GAP.1) + LEGEND;
        (width.unsigned_abs(), height.unsigned_abs())
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        text(area, self.title, &style(20, Anchor::Left), (MARGIN, 24))?;
        for (index, site) in self.sites.iter().enumerate() {
            if let Some((source, _)) = &site.reads {
                self.draw_arrow(area, &self.path(*source, index))?;
            }
        }
        for index in 0..self.sites.len() {
            self.draw_box(area, index)?;
        }
        let bottom = i32::try_from(self.size().1).unwrap_or(i32::MAX) - LEGEND / 2;
        let legend =
            "arrow: this scaling vector multiplies the columns of the weight it points to; γ: its length";
        text(area, legend, &style(13, Anchor::Left).color(&SECONDARY), (MARGIN, bottom))
    }
}

impl WiringFigure<'_> {
    fn draw_arrow<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        path: &[Pixels],
    ) -> Result<(), Failure<B>> {
        let colour = qualitative(0);
        for pair in path.windows(2) {
            line(area, pair[0], pair[1], colour.stroke_width(2))?;
        }
        let [.., before, (x, y)] = path else { return Ok(()) };
        let head = if before.0 == *x {
            [(*x, *y), (x - ARROW, y - 2 * ARROW), (x + ARROW, y - 2 * ARROW)]
        } else {
            [(*x, *y), (x - 2 * ARROW, y - ARROW), (x - 2 * ARROW, y + ARROW)]
        };
        area.draw(&Polygon::new(head.to_vec(), colour.filled()))
    }

    fn draw_box<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        index: usize,
    ) -> Result<(), Failure<B>> {
        let site = &self.sites[index];
        let (x, y) = self.corner(index);
        if self.positions[index].1 == 0 {
            text(
                area,
                &site.block,
                &style(13, Anchor::Middle).color(&SECONDARY),
                (x + BOX.0 / 2, HEAD - 44),
            )?;
        }
        let rectangle = [(x, y), (x + BOX.0, y + BOX.1)];
        area.draw(&Rectangle::new(rectangle, WHITE.filled()))?;
        let border = if site.reads.is_some() { qualitative(0) } else { SECONDARY };
        area.draw(&Rectangle::new(rectangle, border.stroke_width(2)))?;
        let middle = x + BOX.0 / 2;
        text(area, &site.name, &style(14, Anchor::Middle), (middle, y + 14))?;
        text(area, &format!("γ {}", site.channels), &style(13, Anchor::Middle), (middle, y + 30))?;
        match &site.reads {
            Some((_, Some(map))) => {
                text(area, map, &style(11, Anchor::Middle).color(&SECONDARY), (middle, y + 45))
            }
            _ => Ok(()),
        }
    }
}
