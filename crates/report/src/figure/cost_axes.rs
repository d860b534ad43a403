//! The axes of the scatter plot: accuracy on a linear one, a cost on a logarithmic one with a separate position for 0.

use crate::figure::labels::Area;

pub(super) const FRAME: Area = Area { left: 130, top: 120, right: 1360, bottom: 830 };

/// Fraction of the axis between the position of 0 and the lowest cost.
const ZERO_DISTANCE: f64 = 0.18;

/// A method in the plot.
pub(super) struct Point {
    pub(super) label: String,
    pub(super) cost: f64,
    pub(super) accuracy: f64,
    pub(super) error: f64,
    /// Whether it covers every set and seed: otherwise it cannot be on the front.
    pub(super) complete: bool,
    pub(super) on_front: bool,
}

/// Maps cost and accuracy to pixels.
pub(super) struct Axes {
    /// Logarithms of the ends, including the position of 0.
    pub(super) left: f64,
    pub(super) right: f64,
    /// Costs with tick marks.
    pub(super) ticks: Vec<f64>,
    pub(super) has_zero: bool,
    pub(super) lowest: f64,
    pub(super) highest: f64,
    /// Distance between horizontal guides, in percent.
    pub(super) step: f64,
}

impl Axes {
    pub(super) fn of(points: &[Point]) -> Self {
        let costs = || points.iter().map(|point| point.cost).filter(|&cost| cost > 0.0);
        let first = costs().fold(f64::INFINITY, f64::min).min(1e15).log10();
        let last = costs().fold(1.0, f64::max).log10().max(first);
        // At least a third of a decade, so that nearly equal costs do not look far apart.
        let margin = (0.06 * (last - first)).max((0.33 - (last - first)) / 2.0);
        let (first, right) = (first - margin, last + margin);
        let has_zero = points.iter().any(|point| point.cost <= 0.0);
        let left = if has_zero { first - ZERO_DISTANCE * (right - first) } else { first };
        let lowest = points.iter().map(|point| point.accuracy - point.error).fold(100.0, f64::min);
        let highest = points.iter().map(|point| point.accuracy + point.error).fold(0.0, f64::max).max(lowest);
        let margin = (0.1 * (highest - lowest)).max(0.5);
        let range = highest - lowest + 2.0 * margin;
        let steps = [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0];
        Self {
            left,
            right,
            ticks: logarithmic_ticks(first, right),
            has_zero,
            lowest: lowest - margin,
            highest: highest + margin,
            step: steps.into_iter().find(|step| range / step <= 8.0).unwrap_or(20.0),
        }
    }

    pub(super) fn place(&self, point: &Point) -> (i32, i32) {
        (self.x(point.cost), self.y(point.accuracy))
    }

    /// Upper and lower end of the error bar.
    pub(super) fn bar(&self, point: &Point) -> (i32, i32) {
        (self.y(point.accuracy + point.error), self.y(point.accuracy - point.error))
    }

    pub(super) fn x(&self, cost: f64) -> i32 {
        let place = if cost > 0.0 { cost.log10() } else { self.left };
        let (from, to) = (f64::from(FRAME.left) + 60.0, f64::from(FRAME.right) - 30.0);
        (from + (to - from) * (place - self.left) / (self.right - self.left)).round() as i32
    }

    pub(super) fn y(&self, accuracy: f64) -> i32 {
        let share = (accuracy - self.lowest) / (self.highest - self.lowest);
        FRAME.bottom - (share * f64::from(FRAME.bottom - FRAME.top)).round() as i32
    }
}

/// Powers of ten between two logarithms, with 2 and 5 times them where there are few, and every tenth of them
/// where there are hardly any.
fn logarithmic_ticks(first: f64, last: f64) -> Vec<f64> {
    let between = |factors: &[f64]| -> Vec<f64> {
        let decades = first.floor() as i32..=last.ceil() as i32;
        let ticks = decades.flat_map(|decade| factors.iter().map(move |factor| factor * 10f64.powi(decade)));
        ticks.filter(|tick| (first..=last).contains(&tick.log10())).collect()
    };
    let all: Vec<f64> = (10..100).map(|tenths| f64::from(tenths) / 10.0).collect();
    let choices: [&[f64]; 4] = [&[1.0], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], &all];
    choices.iter().map(|factors| between(factors)).find(|ticks| ticks.len() >= 3).unwrap_or_default()
}

/// `0.5`, `1`, `10 k`, `1 M`, ...
pub(super) fn with_unit(value: f64) -> String {
    let power = (value.log10().floor() / 3.0).max(0.0) as usize;
    let unit = ["", " k", " M", " G", " T"].get(power).copied().unwrap_or("");
    // The value is divided by the unit; digits that are only rounding error are cut.
    let scaled = (value / 1000f64.powi(power as i32) * 1e4).round() / 1e4;
    format!("{scaled}{unit}")
}
