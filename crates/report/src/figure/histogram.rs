//! The distribution of a SAN run's gammas: a histogram for each kind of projection, over all blocks.

use std::collections::BTreeMap;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::figure::canvas::{Anchor, Failure, Figure, line, style, text};
use crate::figure::gamma::Gamma;
use crate::figure::labels::Area;
use crate::figure::palette::{SECONDARY, qualitative};
use crate::figure::plot::{LABEL_SIZE, Panel, TICK_SIZE, draw_title};
use crate::load::Stored;

const COLUMNS: usize = 3;
const PANEL: (i32, i32) = (380, 230);
const GAP: (i32, i32) = (70, 100);
const LEFT: i32 = 60;
const TOP: i32 = 150;
/// Odd, so that the initial value 1 is the middle of a bin.
const BINS: usize = 41;

/// The histograms of one run.
pub(super) struct Histograms {
    title: String,
    subtitle: String,
    /// Kind of projection, and its values, in model order.
    kinds: Vec<(String, Vec<f64>)>,
    reach: f64,
}

impl Histograms {
    pub(super) fn of(stored: &Stored, gammas: &[Gamma]) -> Self {
        let record = &stored.record;
        let mut order: Vec<String> = Vec::new();
        let mut kinds: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for gamma in gammas {
            let kind = kind(&gamma.site);
            if !order.contains(&kind) {
                order.push(kind.clone());
            }
            kinds.entry(kind).or_default().extend(gamma.values.iter().map(|&value| f64::from(value)));
        }
        let kinds: Vec<(String, Vec<f64>)> =
            order.into_iter().filter_map(|kind| Some((kind.clone(), kinds.remove(&kind)?))).collect();
        // The tails are clipped into the outer bins: otherwise a single outlier would squeeze all other values into one
        // bar.
        let mut distances: Vec<f64> =
            kinds.iter().flat_map(|(_, values)| values).map(|value| (value - 1.0).abs()).collect();
        distances.sort_by(f64::total_cmp);
        let reach =
            distances.get(distances.len().saturating_sub(1) * 995 / 1000).copied().unwrap_or(0.0).max(1e-6);
        Self {
            title: format!("Learned γ of {} on {}, by projection", record.method.label, stored.learned()),
            subtitle: format!(
                "profile {}, backbone {}, seed {}; all blocks together; the outermost bins contain the tails",
                record.profile, record.backbone.name, record.seed
            ),
            kinds,
            reach,
        }
    }

    fn frame(&self, index: usize) -> Area {
        let (column, row) = ((index % COLUMNS) as i32, (index / COLUMNS) as i32);
        let (left, top) = (LEFT + column * (PANEL.0 + GAP.0), TOP + row * (PANEL.1 + GAP.1));
        Area { left, top, right: left + PANEL.0, bottom: top + PANEL.1 }
    }

    fn draw_kind<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        index: usize,
    ) -> Result<(), Failure<B>> {
        let (name, values) = &self.kinds[index];
        let mut counts = [0u32; BINS];
        for value in values {
            let place = ((value - 1.0) / self.reach + 1.0) / 2.0 * BINS as f64;
            counts[place.clamp(0.0, BINS as f64 - 1.0) as usize] += 1;
        }
        let highest = counts.iter().copied().max().unwrap_or(1).max(1);
        let panel = Panel {
            frame: self.frame(index),
            x: (1.0 - self.reach, 1.0 + self.reach),
            y: (0.0, 1.05 * f64::from(highest)),
        };
        for (bin, &count) in counts.iter().enumerate() {
            let edge = |bin: usize| 1.0 + self.reach * (2.0 * bin as f64 / BINS as f64 - 1.0);
            let corners = [panel.place((edge(bin), 0.0)), panel.place((edge(bin + 1), f64::from(count)))];
            area.draw(&Rectangle::new(corners, qualitative(0).filled()))?;
        }
        let one = panel.x_of(1.0);
        line(area, (one, panel.frame.top), (one, panel.frame.bottom), qualitative(1).stroke_width(2))?;
        panel.draw_x_axis(area, 4)?;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let sd =
            (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        let (left, top) = (panel.frame.left, panel.frame.top);
        text(area, name, &style(LABEL_SIZE, Anchor::Left), (left, top - 40))?;
        let numbers = format!("n {}, mean {mean:.3}, sd {sd:.3}", values.len());
        text(area, &numbers, &style(TICK_SIZE, Anchor::Left).color(&SECONDARY), (left, top - 18))
    }
}

impl Figure for Histograms {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self) -> (u32, u32) {
        let rows = self.kinds.len().div_ceil(COLUMNS) as i32;
        let width = LEFT + COLUMNS as i32 * (PANEL.0 + GAP.0);
        (width.unsigned_abs(), (TOP + rows * (PANEL.1 + GAP.1)).unsigned_abs())
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        draw_title(area, &self.title, &self.subtitle, LEFT)?;
        (0..self.kinds.len()).try_for_each(|index| self.draw_kind(area, index))
    }
}

/// The kind of a site: its name after the last number, for example `attn.qkv` for `blocks.3.attn.qkv`.
fn kind(site: &str) -> String {
    let parts: Vec<&str> = site.split('.').collect();
    let start = parts.iter().rposition(|part| part.parse::<u64>().is_ok()).map_or(0, |place| place + 1);
    if start == parts.len() { site.to_owned() } else { parts[start..].join(".") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_the_part_after_the_last_number() {
        assert_eq!(kind("blocks.3.attn.qkv"), "attn.qkv");
        assert_eq!(kind("layers.1.blocks.0.mlp.fc1"), "mlp.fc1");
        assert_eq!(kind("patch_embed.proj"), "patch_embed.proj");
        assert_eq!(kind("stem.0"), "stem.0");
    }
}
