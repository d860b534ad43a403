//! Performance profiles (Agarwal et al. 2021): for every level of score, the share of a method's trainings above it. A
//! curve above another one everywhere is a better method, whatever mean is used.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::comparison::Comparison;
use crate::comparison::aggregates::profiles;
use crate::figure::canvas::{Anchor, Failure, Figure, line, style, text};
use crate::figure::labels::Area;
use crate::figure::palette::qualitative;
use crate::figure::plot::{LABEL_SIZE, Panel, draw_mark, draw_title};

/// Distance of two levels, in percent of the best method's mean.
const STEP: f64 = 0.5;

/// Levels between marks on a curve; each curve starts elsewhere, so that marks of close curves do not cover each other.
const MARK_EVERY: usize = 24;

const FRAME: Area = Area { left: 130, top: 130, right: 1000, bottom: 690 };

/// The profiles of the complete methods of a comparison.
pub(super) struct Profiles {
    subtitle: String,
    levels: Vec<f64>,
    curves: Vec<(String, Vec<f64>)>,
}

impl Profiles {
    /// `None` for fewer than two complete methods, or on a single set, where a profile shows nothing that the table does
    /// not.
    pub(super) fn of(comparison: &Comparison) -> Option<Self> {
        let levels: Vec<f64> = (0..=240).map(|place| f64::from(place) * STEP).collect();
        let curves = profiles(&comparison.rows, comparison.shared_trainings, &levels);
        (curves.len() > 1 && comparison.datasets.len() > 1).then_some(())?;
        // From the last level that every training of every method exceeds to the first that none does.
        let start = levels.iter().enumerate().rev();
        let start = start
            .map(|(place, _)| place)
            .find(|&place| curves.iter().all(|(_, shares)| shares[place] >= 1.0));
        let end = (0..levels.len()).find(|&place| curves.iter().all(|(_, shares)| shares[place] <= 0.0));
        let shown = start.unwrap_or(0)..=end.unwrap_or(levels.len() - 1);
        let curves =
            curves.into_iter().map(|(label, shares)| (label, shares[shown.clone()].to_vec())).collect();
        let subtitle = format!(
            "{}, {} sets, {} seeds",
            comparison.title(),
            comparison.datasets.len(),
            comparison.seeds.len()
        );
        Some(Self { subtitle, levels: levels[shown].to_vec(), curves })
    }

    fn panel(&self) -> Panel {
        let edge = |place: Option<&f64>| place.copied().unwrap_or(0.0);
        Panel { frame: FRAME, x: (edge(self.levels.first()), edge(self.levels.last())), y: (0.0, 100.0) }
    }
}

impl Figure for Profiles {
    fn title(&self) -> String {
        "Performance profiles: share of trainings above a score".into()
    }

    fn size(&self) -> (u32, u32) {
        (1400, 790)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        draw_title(area, &self.title(), &self.subtitle, 30)?;
        let panel = self.panel();
        panel.draw_y_axis(area, true)?;
        panel.draw_x_axis(area, 10)?;
        panel.draw_names(
            area,
            "score, in % of the best method's mean on the set",
            "trainings above it (%)",
        )?;
        for (index, (label, shares)) in self.curves.iter().enumerate() {
            let points: Vec<(f64, f64)> =
                self.levels.iter().zip(shares).map(|(&level, share)| (level, 100.0 * share)).collect();
            panel.draw_line(area, &points, qualitative(index))?;
            let first = (index * MARK_EVERY / self.curves.len()).min(points.len() - 1);
            for point in points[first..].iter().step_by(MARK_EVERY) {
                draw_mark(area, index, panel.place(*point))?;
            }
            let (left, y) = (FRAME.right + 40, FRAME.top + 10 + 36 * index as i32);
            line(area, (left, y), (left + 44, y), qualitative(index).stroke_width(3))?;
            draw_mark(area, index, (left + 22, y))?;
            text(area, label, &style(LABEL_SIZE, Anchor::Left), (left + 56, y))?;
        }
        Ok(())
    }
}
