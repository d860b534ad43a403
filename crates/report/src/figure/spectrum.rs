//! The spectrum of each weight shift: its singular values, and their effective rank layer by layer, for each method
//! whose run has a `weight_shift.json`.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::figure::canvas::{Anchor, Failure, Figure, style, text};
use crate::figure::labels::Area;
use crate::figure::palette::qualitative;
use crate::figure::plot::{LABEL_SIZE, Panel, TICK_SIZE, draw_legend, draw_mark, draw_title, range};
use crate::load::Stored;
use crate::load::weight_shift::{LayerShift, WeightShift};

const PANELS: usize = 6;
const COLUMNS: usize = 3;
const PANEL: (i32, i32) = (360, 260);
const GAP: (i32, i32) = (80, 110);
const LEFT: i32 = 130;
const TOP: i32 = 190;
/// Singular values below this fraction of the largest are f32 rounding error.
const FLOOR: f64 = -7.0;

/// Methods and their weight shifts on one data set and seed.
pub(super) struct Shifts {
    place: String,
    methods: Vec<(String, WeightShift)>,
}

impl Shifts {
    /// From the runs of one data set and seed.
    pub(super) fn of(runs: Vec<(&Stored, WeightShift)>) -> Option<Self> {
        let first = runs.first()?.0;
        let record = &first.record;
        Some(Self {
            place: format!(
                "{}, profile {}, backbone {}, seed {}",
                first.learned(),
                record.profile,
                record.backbone.name,
                record.seed
            ),
            methods: runs
                .into_iter()
                .map(|(stored, shift)| (stored.record.method.label.clone(), shift))
                .collect(),
        })
    }

    /// Layers common to all methods, in the order of the first one.
    fn common_layers(&self) -> Vec<&str> {
        let has = |shift: &WeightShift, name: &str| shift.layers.iter().any(|layer| layer.name == name);
        let first = self.methods.first().map_or(&[][..], |(_, shift)| &shift.layers);
        let names = first.iter().map(|layer| layer.name.as_str());
        names.filter(|name| self.methods.iter().all(|(_, shift)| has(shift, name))).collect()
    }

    fn layer(&self, method: usize, name: &str) -> Option<&LayerShift> {
        self.methods[method].1.layers.iter().find(|layer| layer.name == name)
    }

    fn names(&self) -> Vec<String> {
        self.methods.iter().map(|(label, _)| label.clone()).collect()
    }
}

/// Singular values of a few layers.
pub(super) struct Spectra<'a>(pub(super) &'a Shifts);

impl Spectra<'_> {
    /// Evenly spaced from the first to the last.
    fn layers(&self) -> Vec<&str> {
        let all = self.0.common_layers();
        let count = all.len().min(PANELS);
        (0..count).map(|place| all[place * (all.len() - 1) / (count.max(2) - 1)]).collect()
    }

    /// Points of one method: index from 1, logarithm of the value divided by the largest.
    fn points(&self, method: usize, layer: &str) -> Vec<(f64, f64)> {
        let Some(layer) = self.0.layer(method, layer) else { return Vec::new() };
        let largest = layer.singular_values.iter().copied().fold(0.0, f64::max);
        let logarithms = layer.singular_values.iter().map(|value| (value / largest).log10());
        let places = (1..).map(f64::from).zip(logarithms);
        places.take_while(|(_, logarithm)| *logarithm > FLOOR).collect()
    }

    fn draw_layer<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        index: usize,
        name: &str,
    ) -> Result<(), Failure<B>> {
        let (column, row) = ((index % COLUMNS) as i32, (index / COLUMNS) as i32);
        let (left, top) = (LEFT + column * (PANEL.0 + GAP.0), TOP + row * (PANEL.1 + GAP.1));
        let curves: Vec<Vec<(f64, f64)>> =
            (0..self.0.methods.len()).map(|method| self.points(method, name)).collect();
        let last = curves.iter().flatten().map(|point| point.0).fold(2.0, f64::max);
        let lowest = curves.iter().flatten().map(|point| point.1).fold(-1.0, f64::min);
        let panel = Panel {
            frame: Area { left, top, right: left + PANEL.0, bottom: top + PANEL.1 },
            x: (1.0, last),
            y: (lowest * 1.05, 0.0),
        };
        panel.draw_y_axis(area, true)?;
        panel.draw_x_axis(area, 4)?;
        text(area, name, &style(LABEL_SIZE, Anchor::Left), (left, top - 22))?;
        for (method, points) in curves.iter().enumerate() {
            panel.draw_line(area, points, qualitative(method))?;
            for point in points.iter().step_by(points.len().div_ceil(8).max(1)) {
                draw_mark(area, method, panel.place(*point))?;
            }
        }
        Ok(())
    }
}

impl Figure for Spectra<'_> {
    fn title(&self) -> String {
        "Singular values of the weight shift".into()
    }

    fn size(&self) -> (u32, u32) {
        let rows = self.layers().len().div_ceil(COLUMNS) as i32;
        let width = LEFT + COLUMNS as i32 * (PANEL.0 + GAP.0) - GAP.0 + 40;
        (width.unsigned_abs(), (TOP + rows * (PANEL.1 + GAP.1)).unsigned_abs())
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        draw_title(area, &self.title(), &self.0.place, 30)?;
        draw_legend(area, &self.0.names(), (30, 126))?;
        for (index, name) in self.layers().into_iter().enumerate() {
            self.draw_layer(area, index, name)?;
        }
        let (width, height) = self.size();
        let legend = "index of the singular value; vertical: log10 of its ratio to the largest";
        text(area, legend, &style(TICK_SIZE, Anchor::Middle), (width as i32 / 2, height as i32 - 40))
    }
}

/// The effective rank of every layer.
pub(super) struct EffectiveRanks<'a>(pub(super) &'a Shifts);

impl EffectiveRanks<'_> {
    fn points(&self, method: usize) -> Vec<(f64, f64)> {
        let layers = self.0.common_layers().into_iter().filter_map(|name| self.0.layer(method, name));
        let points = layers.zip(1..).map(|(layer, place)| (f64::from(place), layer.effective_rank));
        // A layer that a method does not change has no meaningful rank.
        points.filter(|point| point.1 > 0.0).collect()
    }
}

impl Figure for EffectiveRanks<'_> {
    fn title(&self) -> String {
        "Effective rank of the weight shift, layer by layer".into()
    }

    fn size(&self) -> (u32, u32) {
        (1400, 800)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        draw_title(area, &self.title(), &self.0.place, 30)?;
        draw_legend(area, &self.0.names(), (30, 126))?;
        let curves: Vec<Vec<(f64, f64)>> =
            (0..self.0.methods.len()).map(|method| self.points(method)).collect();
        let (_, highest) = range(curves.iter().flatten().map(|point| point.1), 0.05);
        let last = curves.iter().flatten().map(|point| point.0).fold(1.0, f64::max);
        let panel = Panel {
            frame: Area { left: 130, top: 180, right: 1360, bottom: 690 },
            x: (0.5, last + 0.5),
            y: (0.0, highest),
        };
        panel.draw_y_axis(area, true)?;
        panel.draw_x_axis(area, (last as usize).min(12))?;
        panel.draw_names(area, "layer, in the order of the forward pass", "effective rank")?;
        for (method, points) in curves.iter().enumerate() {
            panel.draw_line(area, points, qualitative(method))?;
            points.iter().try_for_each(|point| draw_mark(area, method, panel.place(*point)))?;
        }
        Ok(())
    }
}
