//! Accuracy of each group of sets: a panel for each group, a bar for each method, with 95 % intervals.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::comparison::row::Average;
use crate::comparison::{Comparison, STUDIED};
use crate::figure::canvas::{Anchor, Failure, Figure, line, style, text};
use crate::figure::labels::Area;
use crate::figure::palette::{GUIDE, SECONDARY, qualitative};
use crate::figure::plot::{LABEL_SIZE, Panel, TICK_SIZE, TITLE_SIZE, draw_title, ticks, width_of};
use crate::text::count_of;

/// Least width of the labels' column.
const MIN_LEFT: i32 = 230;
/// Between the figure's edge and its title.
const EDGE: i32 = 30;
const TOP: i32 = 160;
const PANEL_WIDTH: i32 = 330;
const PANEL_GAP: i32 = 40;
const ROW: i32 = 40;
const BOTTOM: i32 = 90;

/// A comparison's group means, ready to be drawn.
pub(super) struct Bars {
    title: String,
    subtitle: String,
    /// Label, and whether the method is under study.
    methods: Vec<(String, bool)>,
    /// Name of each panel, and an average for each method.
    panels: Vec<(String, Vec<Average>)>,
}

impl Bars {
    pub(super) fn of(comparison: &Comparison) -> Self {
        let of = |of_row: &dyn Fn(&crate::comparison::row::Row) -> Average| {
            comparison.rows.iter().map(of_row).collect::<Vec<_>>()
        };
        let mut panels: Vec<(String, Vec<Average>)> = Vec::new();
        if comparison.groups.len() > 1 {
            for (index, group) in comparison.groups.iter().enumerate() {
                panels.push((
                    format!("{} ({})", group.name, group.datasets.len()),
                    of(&|row| row.group_means[index]),
                ));
            }
        }
        panels.push((format!("all sets ({})", comparison.datasets.len()), of(&|row| row.mean_of_sets)));
        Self {
            title: format!(
                "{} ({}), {}: mean accuracy of each group",
                comparison.suite.to_uppercase(),
                comparison.profile,
                comparison.backbone
            ),
            subtitle: format!(
                "bars: 95 % t interval over {}; grey: some runs diverged or are missing",
                count_of(comparison.seeds.len(), "seed")
            ),
            methods: comparison.rows.iter().map(|row| (row.label.clone(), row.method == STUDIED)).collect(),
            panels,
        }
    }

    /// Where the first panel begins: after the longest label.
    fn left(&self) -> i32 {
        let longest = self.methods.iter().map(|(label, _)| width_of(label, LABEL_SIZE)).max();
        MIN_LEFT.max(EDGE + longest.unwrap_or(0))
    }

    fn panel(&self, index: usize) -> Panel {
        let left = self.left() + index as i32 * (PANEL_WIDTH + PANEL_GAP);
        let bottom = TOP + ROW * self.methods.len() as i32;
        let highest = self.panels[index]
            .1
            .iter()
            .filter_map(|average| average.spread)
            .map(|spread| {
                spread.interval_95.map_or(spread.mean, |(_, high)| high.min(100.0)).max(spread.mean)
            })
            .fold(1.0, f64::max);
        Panel {
            frame: Area { left, top: TOP, right: left + PANEL_WIDTH, bottom },
            x: (0.0, 1.02 * highest),
            y: (0.0, 1.0),
        }
    }

    fn draw_bar<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        panel: &Panel,
        method: usize,
        average: &Average,
    ) -> Result<(), Failure<B>> {
        let middle = TOP + ROW * method as i32 + ROW / 2;
        let Some(spread) = average.spread else {
            let grey = style(TICK_SIZE, Anchor::Left).color(&SECONDARY);
            return text(area, "no result", &grey, (panel.frame.left + 8, middle));
        };
        let colour = match (average.is_complete(), self.methods[method].1) {
            (false, _) => RGBColor(200, 200, 200),
            (true, true) => qualitative(1),
            (true, false) => qualitative(5),
        };
        let corner = |x: f64, y: i32| (panel.x_of(x), middle + y);
        area.draw(&Rectangle::new([corner(0.0, -13), corner(spread.mean, 13)], colour.filled()))?;
        let (low, high) = spread.interval_95.unwrap_or((spread.mean, spread.mean));
        let (low, high) = (low.clamp(0.0, 100.0), high.clamp(0.0, 100.0));
        line(area, corner(low, 0), corner(high, 0), BLACK.stroke_width(2))?;
        for end in [low, high] {
            line(area, corner(end, -6), corner(end, 6), BLACK.stroke_width(2))?;
        }
        let name = format!("{:.1}", spread.mean);
        text(area, &name, &style(TICK_SIZE, Anchor::Left), (panel.frame.left + 8, middle))
    }
}

impl Figure for Bars {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self) -> (u32, u32) {
        let panels = self.panels.len() as i32;
        let title = 2 * EDGE + width_of(&self.title, TITLE_SIZE);
        let width = (self.left() + panels * (PANEL_WIDTH + PANEL_GAP)).max(1000).max(title);
        (width.unsigned_abs(), (TOP + ROW * self.methods.len() as i32 + BOTTOM).unsigned_abs())
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Failure<B>> {
        draw_title(area, &self.title, &self.subtitle, EDGE)?;
        for (method, (label, _)) in self.methods.iter().enumerate() {
            let middle = TOP + ROW * method as i32 + ROW / 2;
            text(area, label, &style(LABEL_SIZE, Anchor::Right), (self.left() - 14, middle))?;
        }
        for (index, (name, averages)) in self.panels.iter().enumerate() {
            let panel = self.panel(index);
            for (value, _) in ticks(panel.x, 4) {
                let x = panel.x_of(value);
                line(area, (x, TOP), (x, panel.frame.bottom), GUIDE.stroke_width(1))?;
            }
            text(area, name, &style(LABEL_SIZE, Anchor::Left), (panel.frame.left, TOP - 24))?;
            for (method, average) in averages.iter().enumerate() {
                self.draw_bar(area, &panel, method, average)?;
            }
            line(
                area,
                (panel.frame.left, TOP),
                (panel.frame.left, panel.frame.bottom),
                BLACK.stroke_width(2),
            )?;
            panel.draw_x_axis(area, 4)?;
        }
        let (_, height) = self.size();
        let panels = self.panels.len() as i32;
        let middle = self.left() + (panels * (PANEL_WIDTH + PANEL_GAP) - PANEL_GAP) / 2;
        text(area, "mean accuracy (%)", &style(LABEL_SIZE, Anchor::Middle), (middle, height as i32 - 26))
    }
}
