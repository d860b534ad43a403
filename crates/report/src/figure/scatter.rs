//! Accuracy against a cost: trainable parameters, memory or time.
//!
//! The horizontal axis is logarithmic; methods that train only the head have a position of their own at its left,
//! marked 0. A method is on the Pareto front if no other is at least as accurate at the same or a lower cost.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::comparison::Comparison;
use crate::comparison::row::Row;
use crate::figure::canvas::{Anchor, Failure, Figure, line, style, text, upward};
use crate::figure::cost_axes::{Axes, FRAME, Point, with_unit};
use crate::figure::labels::{Area, Pixels, place};
use crate::figure::palette::{GUIDE, SECONDARY, qualitative};
use crate::text::count_of;

const SIZE: (u32, u32) = (1400, 950);
const RADIUS: i32 = 10;
const TICK_SIZE: u32 = 24;
const LABEL_SIZE: u32 = 27;

/// Distance in pixels between a point and its label beyond which a line connects them.
const MAX_UNCONNECTED: i32 = 24;

/// What accuracy is plotted against.
#[derive(Debug, Clone, Copy)]
pub(super) enum CostAxis {
    /// Trainable parameters, without the head.
    Parameters,
    /// Peak resident memory of the worker, MiB.
    Memory,
    /// Training time in seconds.
    Time,
    /// Increase of the loss on a neutral text, nats per token.
    Forgetting,
}

impl CostAxis {
    fn of(self, row: &Row) -> Option<f64> {
        match self {
            Self::Parameters => Some(row.parameters.trainable),
            Self::Memory => row.cost.peak_memory.map(|bytes| bytes as f64 / 1048576.0),
            Self::Time => row.cost.train_seconds,
            Self::Forgetting => row.forgetting,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Parameters => "trainable parameters",
            Self::Memory => "peak memory",
            Self::Time => "training time",
            Self::Forgetting => "forgetting",
        }
    }

    fn legend(self) -> &'static str {
        match self {
            Self::Parameters => "trainable parameters, without head",
            Self::Memory => "peak memory of the process (MiB)",
            Self::Time => "training time of a run (s)",
            Self::Forgetting => "increase of the loss on a neutral text (nats per token)",
        }
    }
}

/// The methods of a comparison, ready to be drawn.
pub(super) struct Scatter {
    title: String,
    subtitle: String,
    points: Vec<Point>,
    axes: Axes,
    cost: CostAxis,
}

impl Scatter {
    pub(super) fn of(comparison: &Comparison, cost: CostAxis) -> Self {
        let mut points: Vec<Point> = comparison
            .rows
            .iter()
            .filter_map(|row| {
                let spread = row.mean_of_sets.spread?;
                let complete = row.mean_of_sets.is_complete();
                Some(Point {
                    label: format!("{}{}", row.label, if complete { "" } else { "*" }),
                    cost: cost.of(row)?,
                    accuracy: spread.mean,
                    error: spread.standard_error.unwrap_or(0.0),
                    complete,
                    on_front: false,
                })
            })
            .collect();
        mark_front(&mut points);
        let incomplete = points.iter().any(|point| !point.complete);
        let absent = comparison.rows.len() - points.len();
        Self {
            title: format!(
                "{} ({}), {}: accuracy against {}",
                comparison.suite.to_uppercase(),
                comparison.profile,
                comparison.backbone,
                cost.name()
            ),
            subtitle: format!(
                "bars: ± standard error over {}; filled: on the Pareto front{}{}",
                count_of(comparison.seeds.len(), "seed"),
                if incomplete { "; *: some seeds diverged or are missing" } else { "" },
                if absent > 0 {
                    format!("; not shown because data sets are missing: {absent}")
                } else {
                    String::new()
                },
            ),
            axes: Axes::of(&points),
            points,
            cost,
        }
    }

    /// Whether there is anything to compare.
    pub(super) fn is_worth_drawing(&self) -> bool {
        self.points.len() > 1
    }

    fn draw_axes<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        let axes = &self.axes;
        let mut tick = (axes.lowest / axes.step).ceil();
        while tick * axes.step <= axes.highest {
            let y = axes.y(tick * axes.step);
            line(area, (FRAME.left, y), (FRAME.right, y), GUIDE.stroke_width(1))?;
            let decimals = usize::from(axes.step < 1.0);
            text(
                area,
                // Adding 0 turns a negative zero into a positive one.
                &format!("{:.decimals$}", tick * axes.step + 0.0),
                &style(TICK_SIZE, Anchor::Right),
                (FRAME.left - 12, y),
            )?;
            tick += 1.0;
        }
        for &tick in &axes.ticks {
            let x = axes.x(tick);
            line(area, (x, FRAME.bottom), (x, FRAME.bottom + 10), BLACK.stroke_width(2))?;
            text(area, &with_unit(tick), &style(TICK_SIZE, Anchor::Middle), (x, FRAME.bottom + 28))?;
        }
        line(area, (FRAME.left, FRAME.top), (FRAME.left, FRAME.bottom), BLACK.stroke_width(2))?;
        line(area, (FRAME.left, FRAME.bottom), (FRAME.right, FRAME.bottom), BLACK.stroke_width(2))?;
        if axes.has_zero {
            self.draw_zero(area)?;
        }
        let middle = ((FRAME.left + FRAME.right) / 2, (FRAME.top + FRAME.bottom) / 2);
        let legend = style(LABEL_SIZE, Anchor::Middle);
        text(area, self.cost.legend(), &legend, (middle.0, FRAME.bottom + 80))?;
        text(area, "mean accuracy over sets (%)", &upward(LABEL_SIZE), (38, middle.1))
    }

    /// The position of 0, and the break that separates it from the logarithmic axis.
    fn draw_zero<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        let zero = self.axes.x(0.0);
        line(area, (zero, FRAME.bottom), (zero, FRAME.bottom + 10), BLACK.stroke_width(2))?;
        text(area, "0", &style(TICK_SIZE, Anchor::Middle), (zero, FRAME.bottom + 28))?;
        let gap = zero + (FRAME.right - FRAME.left) / 16;
        area.draw(&Rectangle::new(
            [(gap - 5, FRAME.bottom - 3), (gap + 5, FRAME.bottom + 3)],
            WHITE.filled(),
        ))?;
        for x in [gap - 5, gap + 5] {
            line(area, (x - 5, FRAME.bottom + 10), (x + 5, FRAME.bottom - 10), BLACK.stroke_width(2))?;
        }
        Ok(())
    }

    /// The front as a staircase: between two of its methods, it is at the accuracy of the cheaper one.
    fn front(&self) -> Vec<(Pixels, Pixels)> {
        let mut front: Vec<&Point> = self.points.iter().filter(|point| point.on_front).collect();
        front.sort_by(|a, b| a.cost.total_cmp(&b.cost));
        let steps = front.windows(2).flat_map(|pair| {
            let ((x0, y0), (x1, y1)) = (self.axes.place(pair[0]), self.axes.place(pair[1]));
            [((x0, y0), (x1, y0)), ((x1, y0), (x1, y1))]
        });
        steps.collect()
    }

    fn draw_point<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        index: usize,
        point: &Point,
    ) -> Result<(), Failure<B>> {
        let colour = qualitative(index);
        let (x, y) = self.axes.place(point);
        let (top, bottom) = self.axes.bar(point);
        line(area, (x, top), (x, bottom), colour.stroke_width(3))?;
        for end in [top, bottom] {
            line(area, (x - 8, end), (x + 8, end), colour.stroke_width(3))?;
        }
        let fill = if point.on_front { colour } else { WHITE };
        area.draw(&Circle::new((x, y), RADIUS, colour.filled()))?;
        area.draw(&Circle::new((x, y), RADIUS - 3, fill.filled()))
    }

    /// Labels avoid the points, their error bars and the front; one that had to move away from its point is connected
    /// to it by a thin line.
    fn draw_labels<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        let mut obstacles: Vec<Area> =
            self.front().into_iter().map(|(from, to)| Area::spanning(from, to, 4)).collect();
        let mut labels = Vec::new();
        for point in &self.points {
            let (x, y) = self.axes.place(point);
            let (top, bottom) = self.axes.bar(point);
            obstacles.push(Area::around((x, y), (2 * RADIUS + 6, 2 * RADIUS + 6)));
            obstacles.push(Area::spanning((x, top), (x, bottom), 10));
            let (width, height) =
                area.estimate_text_size(&point.label, &style(LABEL_SIZE, Anchor::Middle))?;
            labels.push(((x, y), (width as i32 + 6, height as i32 + 4)));
        }
        for (point, label) in self.points.iter().zip(place(&labels, &obstacles, FRAME)) {
            let (from, to) = (self.axes.place(point), label.nearest(self.axes.place(point)));
            if (to.0 - from.0).abs().max((to.1 - from.1).abs()) > MAX_UNCONNECTED {
                line(area, from, to, SECONDARY.stroke_width(1))?;
            }
            text(area, &point.label, &style(LABEL_SIZE, Anchor::Middle), label.centre())?;
        }
        Ok(())
    }
}

impl Figure for Scatter {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        text(area, &self.title, &style(31, Anchor::Left), (FRAME.left, 40))?;
        text(area, &self.subtitle, &style(23, Anchor::Left).color(&SECONDARY), (FRAME.left, 82))?;
        self.draw_axes(area)?;
        for (from, to) in self.front() {
            line(area, from, to, SECONDARY.mix(0.6).stroke_width(2))?;
        }
        self.draw_labels(area)?;
        for (index, point) in self.points.iter().enumerate() {
            self.draw_point(area, index, point)?;
        }
        Ok(())
    }
}

fn mark_front(points: &mut [Point]) {
    let complete: Vec<(f64, f64)> =
        points.iter().filter(|point| point.complete).map(|point| (point.cost, point.accuracy)).collect();
    for point in points {
        let beaten = complete.iter().any(|&(cost, accuracy)| {
            (cost <= point.cost && accuracy > point.accuracy)
                || (cost < point.cost && accuracy >= point.accuracy)
        });
        point.on_front = point.complete && !beaten;
    }
}
