//! The learning curves of one SAN model, from `epochs.jsonl`: its accuracy with both mechanisms, with one of them, and
//! with only the head, together with its training loss.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::figure::canvas::{Failure, Figure};
use crate::figure::labels::Area;
use crate::figure::palette::qualitative;
use crate::figure::plot::{Panel, draw_legend, draw_mark, draw_title, range};
use crate::load::Stored;
use crate::load::logs::Epoch;

const SIZE: (u32, u32) = (1400, 720);

/// The curves of one run, ready to be drawn.
pub(super) struct Curves {
    title: String,
    subtitle: String,
    losses: Vec<(f64, f64)>,
    /// Name and points of each non-empty curve, in percent.
    accuracies: Vec<(String, Vec<(f64, f64)>)>,
}

impl Curves {
    pub(super) fn of(stored: &Stored, epochs: &[Epoch]) -> Self {
        let record = &stored.record;
        let curve = |name: &str, of: fn(&Epoch) -> Option<f64>| {
            let points = epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64, 100.0 * of(epoch)?)));
            (name.to_owned(), points.collect::<Vec<_>>())
        };
        let all = [
            curve("both", |epoch| epoch.test_accuracy),
            curve("nt only", |epoch| epoch.part_accuracies.map(|parts| parts.nt)),
            curve("sp only", |epoch| epoch.part_accuracies.map(|parts| parts.sp)),
            curve("head only", |epoch| epoch.part_accuracies.map(|parts| parts.head)),
        ];
        Self {
            title: format!("Learning curves of {} on {}", record.method.label, stored.learned()),
            subtitle: format!(
                "profile {}, backbone {}, seed {}; one model, evaluated with all or part of what it learned",
                record.profile, record.backbone.name, record.seed
            ),
            losses: epochs.iter().map(|epoch| (epoch.epoch as f64, epoch.train_loss)).collect(),
            accuracies: all.into_iter().filter(|(_, points)| !points.is_empty()).collect(),
        }
    }

    /// Number of curves besides the loss.
    pub(super) fn count(&self) -> usize {
        self.accuracies.len()
    }

    fn panel(&self, (left, right): (i32, i32), points: &[(f64, f64)]) -> Panel {
        let (low, high) = range(points.iter().map(|point| point.1), 0.08);
        Panel {
            frame: Area { left, top: 170, right, bottom: 600 },
            x: range(self.losses.iter().map(|point| point.0), 0.02),
            y: (low.max(0.0), high),
        }
    }
}

impl Figure for Curves {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        draw_title(area, &self.title, &self.subtitle, 30)?;
        let points: Vec<(f64, f64)> = self.accuracies.iter().flat_map(|(_, points)| points.clone()).collect();
        let panel = self.panel((130, 820), &points);
        panel.draw_y_axis(area, true)?;
        panel.draw_x_axis(area, 8)?;
        panel.draw_names(area, "epoch", "accuracy on the test split (%)")?;
        for (index, (_, points)) in self.accuracies.iter().enumerate() {
            panel.draw_line(area, points, qualitative(index))?;
            let every = points.len().div_ceil(20).max(1);
            for point in points.iter().step_by(every) {
                draw_mark(area, index, panel.place(*point))?;
            }
        }
        let names: Vec<String> = self.accuracies.iter().map(|(name, _)| name.clone()).collect();
        draw_legend(area, &names, (130, 130))?;
        let losses = self.panel((970, 1360), &self.losses);
        losses.draw_y_axis(area, true)?;
        losses.draw_x_axis(area, 4)?;
        losses.draw_names(area, "epoch", "training loss")?;
        losses.draw_line(area, &self.losses, BLACK)
    }
}
