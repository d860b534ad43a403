//! The critical-difference diagram (Demsar 2006): methods on a line of average ranks, the best at the left; a bar
//! joins those that do not differ significantly by Nemenyi's test.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::comparison::Comparison;
use crate::comparison::ranking::Ranking;
use crate::figure::canvas::{Anchor, Failure, Figure, line, style, text};
use crate::figure::palette::{SECONDARY, qualitative};
use crate::figure::plot::{LABEL_SIZE, TICK_SIZE, draw_title, width_of};

/// Length of the rank axis, and the minimum space for labels on each side of it.
const LENGTH: i32 = 740;
const MIN_LABEL_SPACE: i32 = 330;
const AXIS: i32 = 200;
const ROW: i32 = 34;
const BAR_GAP: i32 = 14;

/// The ranking of one comparison.
pub(super) struct RankDiagram {
    title: String,
    subtitle: String,
    /// Label and average rank, the best first.
    methods: Vec<(String, f64)>,
    critical: f64,
    /// First and last of each group without significant differences.
    bars: Vec<(usize, usize)>,
}

impl RankDiagram {
    /// `None` without a critical difference.
    pub(super) fn of(comparison: &Comparison, ranking: &Ranking) -> Option<Self> {
        let critical = ranking.critical_difference?;
        let mut methods: Vec<(String, f64)> =
            ranking.methods.iter().cloned().zip(ranking.average_ranks.iter().copied()).collect();
        methods.sort_by(|a, b| a.1.total_cmp(&b.1));
        let friedman = ranking.friedman.map_or(String::new(), |test| match test.p_value {
            p if p < 0.001 => "; Friedman's test p < 0.001".into(),
            p => format!("; Friedman's test p = {p:.3}"),
        });
        Some(Self {
            title: format!(
                "{} ({}), {}: average ranks over {} sets",
                comparison.suite.to_uppercase(),
                comparison.profile,
                comparison.backbone,
                ranking.sets
            ),
            subtitle: format!("joined: not significantly different by Nemenyi's test at 0.05{friedman}"),
            bars: cliques(&methods, critical),
            methods,
            critical,
        })
    }

    /// Where the rank axis begins: after the longest label on its left.
    fn left(&self) -> i32 {
        label_space(&self.methods[..self.half()])
    }

    fn width(&self) -> i32 {
        self.left() + LENGTH + label_space(&self.methods[self.half()..])
    }

    fn x(&self, rank: f64) -> i32 {
        let last = self.methods.len().max(2) as f64;
        self.left() + ((rank - 1.0) / (last - 1.0) * f64::from(LENGTH)).round() as i32
    }

    fn first_label(&self) -> i32 {
        AXIS + 30 + BAR_GAP * self.bars.len() as i32 + 20
    }

    /// Methods whose labels are on the left; the others are on the right.
    fn half(&self) -> usize {
        self.methods.len().div_ceil(2)
    }

    fn draw_axis<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        line(area, (self.left(), AXIS), (self.left() + LENGTH, AXIS), BLACK.stroke_width(2))?;
        for rank in 1..=self.methods.len() {
            let x = self.x(rank as f64);
            line(area, (x, AXIS - 10), (x, AXIS), BLACK.stroke_width(2))?;
            text(area, &rank.to_string(), &style(TICK_SIZE, Anchor::Middle), (x, AXIS - 24))?;
        }
        // The critical difference as a length, over the axis.
        let (from, to) = (self.x(1.0), self.x(1.0 + self.critical).min(self.width() - 20));
        let y = AXIS - 56;
        line(area, (from, y), (to, y), SECONDARY.stroke_width(3))?;
        for end in [from, to] {
            line(area, (end, y - 7), (end, y + 7), SECONDARY.stroke_width(3))?;
        }
        let name = format!("critical difference {:.2}", self.critical);
        text(area, &name, &style(TICK_SIZE, Anchor::Left).color(&SECONDARY), (from, y - 20))
    }

    fn draw_method<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        index: usize,
    ) -> Result<(), Failure<B>> {
        let (label, rank) = &self.methods[index];
        let x = self.x(*rank);
        let at_left = index < self.half();
        let row = if at_left { index } else { self.methods.len() - 1 - index };
        let y = self.first_label() + ROW * row as i32;
        let edge = if at_left { self.left() - 30 } else { self.left() + LENGTH + 30 };
        line(area, (x, AXIS), (x, y), BLACK.stroke_width(1))?;
        line(area, (x, y), (edge, y), BLACK.stroke_width(1))?;
        area.draw(&Circle::new((x, AXIS), 5, BLACK.filled()))?;
        let name = named(label, *rank);
        let (anchor, at) = if at_left { (Anchor::Right, edge - 8) } else { (Anchor::Left, edge + 8) };
        text(area, &name, &style(LABEL_SIZE, anchor), (at, y))
    }
}

impl Figure for RankDiagram {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self) -> (u32, u32) {
        let height = self.first_label() + ROW * self.half() as i32 + 10;
        (self.width().unsigned_abs(), height.unsigned_abs())
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        draw_title(area, &self.title, &self.subtitle, 30)?;
        self.draw_axis(area)?;
        for index in 0..self.methods.len() {
            self.draw_method(area, index)?;
        }
        for (row, &(first, last)) in self.bars.iter().enumerate() {
            let y = AXIS + 24 + BAR_GAP * row as i32;
            let (from, to) = (self.x(self.methods[first].1) - 6, self.x(self.methods[last].1) + 6);
            line(area, (from, y), (to, y), qualitative(1).stroke_width(6))?;
        }
        Ok(())
    }
}

fn named(label: &str, rank: f64) -> String {
    format!("{label}  {rank:.1}")
}

/// Width in pixels that these methods' labels need next to the axis.
fn label_space(methods: &[(String, f64)]) -> i32 {
    let longest = methods.iter().map(|(label, rank)| width_of(&named(label, *rank), LABEL_SIZE)).max();
    MIN_LABEL_SPACE.max(70 + longest.unwrap_or(0))
}

/// The largest runs of two or more methods (sorted by rank) that lie within the critical difference.
fn cliques(methods: &[(String, f64)], critical: f64) -> Vec<(usize, usize)> {
    let mut bars: Vec<(usize, usize)> = Vec::new();
    for first in 0..methods.len() {
        let last = (first..methods.len()).rev().find(|&last| methods[last].1 - methods[first].1 <= critical);
        if let Some(last) = last.filter(|&last| last > first && bars.last().is_none_or(|bar| bar.1 < last)) {
            bars.push((first, last));
        }
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_join_maximal_groups_and_none_contains_another() {
        let methods = |ranks: &[f64]| ranks.iter().map(|&rank| (String::new(), rank)).collect::<Vec<_>>();
        assert_eq!(cliques(&methods(&[1.0, 1.5, 2.5, 4.0]), 1.6), [(0, 2), (2, 3)]);
        assert_eq!(cliques(&methods(&[1.0, 3.0, 5.0]), 1.0), []);
        assert_eq!(cliques(&methods(&[1.0, 1.1, 1.2]), 1.0), [(0, 2)]);
    }
}
