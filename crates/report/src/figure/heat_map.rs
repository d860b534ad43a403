//! The heat map of one SAN run's gammas: a row for each site, a column for each channel.
//!
//! Sites differ in width: every row has its own width on a common channel scale. Where a model is wider than the
//! figure, a column shows the value furthest from 1 among a few neighbouring channels.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::figure::canvas::{Anchor, Failure, Figure, line, style, text};
use crate::figure::gamma::Gamma;
use crate::figure::palette::{SECONDARY, diverging};
use crate::load::Stored;

const PLOT_WIDTH: usize = 1000;
const ROW_GAP: i32 = 2;
const LEFT: i32 = 270;
const TOP: i32 = 120;
const BOTTOM: i32 = 100;
const RIGHT: i32 = 160;

/// Maximum number of columns in a row: each is at least two pixels wide.
const MAX_COLUMNS: usize = PLOT_WIDTH / 2;

/// A run's gammas, ready to be drawn.
pub(super) struct HeatMap {
    title: String,
    subtitle: String,
    gammas: Vec<Gamma>,
    /// Number of channels of the widest site.
    widest: usize,
    /// Largest distance of any gamma from 1, which is the end of the palette.
    reach: f64,
}

impl HeatMap {
    pub(super) fn of(stored: &Stored, gammas: Vec<Gamma>) -> Self {
        let record = &stored.record;
        let reach = gammas
            .iter()
            .flat_map(|gamma| &gamma.values)
            .map(|&value| (f64::from(value) - 1.0).abs())
            .fold(1e-6, f64::max);
        Self {
            title: format!("Learned γ of {} on {}", record.method.label, stored.learned()),
            subtitle: format!(
                "profile {}, backbone {}, seed {}",
                record.profile, record.backbone.name, record.seed
            ),
            widest: gammas.iter().map(|gamma| gamma.values.len()).max().unwrap_or(1),
            gammas,
            reach,
        }
    }

    fn row_height(&self) -> i32 {
        (700 / self.gammas.len() as i32).clamp(18, 40)
    }

    fn plot_bottom(&self) -> i32 {
        TOP + self.row_height() * self.gammas.len() as i32
    }

    /// Number of channels per column of pixels.
    fn channels_per_column(&self) -> usize {
        self.widest.div_ceil(MAX_COLUMNS)
    }

    fn x(&self, channel: usize) -> i32 {
        LEFT + (channel * PLOT_WIDTH / self.widest) as i32
    }

    fn draw_row<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        row: usize,
        gamma: &Gamma,
    ) -> Result<(), Failure<B>> {
        let top = TOP + self.row_height() * row as i32;
        let bottom = top + self.row_height() - ROW_GAP;
        let middle = (top + bottom) / 2;
        text(area, &gamma.site, &style(19, Anchor::Right), (LEFT - 10, middle))?;
        let step = self.channels_per_column();
        for (column, channels) in gamma.values.chunks(step).enumerate() {
            let (from, to) = (column * step, column * step + channels.len());
            let colour = diverging((furthest_from_one(channels) - 1.0) / self.reach).filled();
            area.draw(&Rectangle::new([(self.x(from), top), (self.x(to), bottom)], colour))?;
        }
        // The area to the right of a narrower site has no value, which differs from a value of 1.
        let own_width = [(LEFT, top), (self.x(gamma.values.len()), bottom)];
        area.draw(&Rectangle::new(own_width, SECONDARY.stroke_width(1)))
    }

    fn draw_channel_axis<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        let y = self.plot_bottom() + 4;
        for quarter in 0..=4 {
            let channel = self.widest * quarter / 4;
            let x = self.x(channel);
            line(area, (x, y), (x, y + 8), BLACK.stroke_width(1))?;
            text(area, &channel.to_string(), &style(19, Anchor::Middle), (x, y + 22))?;
        }
        let step = self.channels_per_column();
        let legend = if step == 1 {
            "channel (each site has its own width)".to_owned()
        } else {
            format!(
                "channel (each site has its own width; of every {step} channels, the value furthest from 1)"
            )
        };
        text(area, &legend, &style(21, Anchor::Middle), (LEFT + PLOT_WIDTH as i32 / 2, y + 58))
    }

    fn draw_colour_bar<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        let (left, right) = (LEFT + PLOT_WIDTH as i32 + 40, LEFT + PLOT_WIDTH as i32 + 66);
        let (top, bottom) = (TOP, self.plot_bottom());
        let height = f64::from(bottom - top);
        for y in top..bottom {
            let value = 1.0 - 2.0 * (f64::from(y - top) + 0.5) / height;
            area.draw(&Rectangle::new([(left, y), (right, y + 1)], diverging(value).filled()))?;
        }
        area.draw(&Rectangle::new([(left, top), (right, bottom)], BLACK.stroke_width(1)))?;
        for place in [-1.0, -0.5, 0.0, 0.5, 1.0] {
            let y = top + (height * (1.0 - place) / 2.0).round() as i32;
            line(area, (right, y), (right + 6, y), BLACK.stroke_width(1))?;
            let value = 1.0 + place * self.reach;
            let decimals = if self.reach < 0.05 { 4 } else { 2 };
            text(area, &format!("{value:.decimals$}"), &style(19, Anchor::Left), (right + 12, y))?;
        }
        text(area, "γ", &style(26, Anchor::Middle), ((left + right) / 2, top - 24))
    }
}

impl Figure for HeatMap {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self) -> (u32, u32) {
        ((LEFT + PLOT_WIDTH as i32 + RIGHT) as u32, (self.plot_bottom() + BOTTOM) as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        text(area, &self.title, &style(30, Anchor::Left), (LEFT, 42))?;
        text(area, &self.subtitle, &style(21, Anchor::Left).color(&SECONDARY), (LEFT, 82))?;
        for (row, gamma) in self.gammas.iter().enumerate() {
            self.draw_row(area, row, gamma)?;
        }
        self.draw_channel_axis(area)?;
        self.draw_colour_bar(area)
    }
}

fn furthest_from_one(values: &[f32]) -> f64 {
    let distance = |value: f32| (value - 1.0).abs();
    f64::from(
        values
            .iter()
            .copied()
            .fold(1.0, |furthest, value| if distance(value) > distance(furthest) { value } else { furthest }),
    )
}
