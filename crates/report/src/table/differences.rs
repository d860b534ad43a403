//! The differences between methods as a table: means, intervals, tests, what would be needed, and single items.

use crate::comparison::Comparison;
use crate::comparison::difference::{Difference, Verdict};
use crate::comparison::estimate::{Estimate, Needed, Seeds};
use crate::comparison::items::ItemTest;
use crate::table::{Column, Table, TableCell, TableRow};
use crate::text::thousands;

const DASH: &str = "-";

impl Comparison {
    /// One row for each difference between a method and a baseline; `None` if there is none.
    pub(super) fn differences_table(&self) -> Option<Table> {
        let has_items = self.differences.iter().any(|difference| difference.items.is_some());
        let rows: Vec<TableRow> =
            self.differences.iter().map(|difference| row(difference, has_items)).collect();
        (!rows.is_empty()).then(|| Table {
            name: format!("{}-differences", self.name()),
            caption: format!("{}: differences between methods, in points.", self.title()),
            corner: "difference".into(),
            columns: columns(has_items),
            rows,
            notes: self.differences_notes(has_items),
        })
    }

    fn differences_notes(&self, has_items: bool) -> Vec<String> {
        let mut notes = vec![
            "Means over sets of the means over paired seeds ± standard error. The unit of a test is what varies \
             independently. By set: other sets and seeds of this kind could give another mean; by training: other \
             seeds on the same sets could. Two-sided t tests, each family corrected by Holm; a difference is \
             significant if both are below 0.05."
                .into(),
        ];
        notes.push(if self.shared_trainings {
            "One model is trained for all sets, so a seed is one training: by training is a t test over seeds, by \
             set is Clark's min F', which adds the variance of sets and of trainings; the interval is Student's \
             with that variance."
                .into()
        } else {
            "By set is a t test over the sets' means; by training combines the variances within sets (Welch). The \
             interval is a bootstrap-t over sets from five sets on, otherwise Student's. Wilcoxon's test is over \
             the sets' means, without correction. Correlation: of two trainings of one set."
                .into()
        });
        notes.push(
            "Sets and seeds needed: for which a difference of this size and spread would be significant at 0.05 \
             without correction, with a probability of 80 %."
                .into(),
        );
        if has_items {
            notes.push(
                "Items: predictions of the first seed only, McNemar's test (exact up to 1,000 discordant items), \
                 corrected by Holm, and a paired bootstrap of items within sets. This is about these trained models: \
                 the variance between trainings is left out."
                    .into(),
            );
        }
        notes
    }
}

fn columns(has_items: bool) -> Vec<Column> {
    let mut headers = vec![
        ("difference", "mean"),
        ("difference", "95 % interval"),
        ("difference", "conclusion"),
        ("tests", "p by set"),
        ("tests", "p by training"),
        ("tests", "Wilcoxon p by set"),
        ("spread", "correlation"),
        ("spread", "sets needed"),
        ("spread", "seeds needed"),
    ];
    if has_items {
        headers.extend([
            ("items", "number"),
            ("items", "only first correct"),
            ("items", "only second correct"),
            ("items", "McNemar p"),
            ("items", "95 % interval (items)"),
        ]);
    }
    headers.into_iter().map(|(group, header)| Column { group: group.into(), header: header.into() }).collect()
}

fn row(difference: &Difference, has_items: bool) -> TableRow {
    let mut cells = match &difference.estimate {
        Some(estimate) => estimate_cells(difference, estimate),
        None => vec![TableCell::from(DASH.to_owned()); 9],
    };
    if has_items {
        cells.extend(match &difference.items {
            Some(items) => item_cells(items),
            None => vec![TableCell::from(DASH.to_owned()); 5],
        });
    }
    TableRow { label: format!("{} - {}", difference.method, difference.baseline), cells }
}

fn estimate_cells(difference: &Difference, estimate: &Estimate) -> Vec<TableCell> {
    let mean = match estimate.standard_error {
        Some(error) => format!("{:+.1} ± {error:.1}", estimate.mean),
        None => format!("{:+.1}", estimate.mean),
    };
    let conclusion = match difference.verdict {
        Verdict::Beats => "above",
        Verdict::Below => "below",
        Verdict::NotSignificant => "not significant",
        Verdict::Untested | Verdict::NoPairs => "not tested",
    };
    let correlation = estimate.intraclass_correlation;
    vec![
        number(mean, estimate.mean),
        interval(estimate.interval_95),
        TableCell::from(conclusion.to_owned()),
        p_cell(difference.corrected.by_set),
        p_cell(difference.corrected.by_training),
        p_cell(estimate.wilcoxon.map(|test| test.p_value)),
        correlation.map_or(dash(), |value| number(format!("{value:.2}"), value)),
        sets_needed(estimate.needed),
        seeds_needed(estimate.needed),
    ]
}

fn item_cells(items: &ItemTest) -> Vec<TableCell> {
    let count = |count: f64| number(thousands(count), count);
    vec![
        count(items.items as f64),
        count(items.discordant.wins as f64),
        count(items.discordant.losses as f64),
        p_cell(items.corrected_p),
        interval(items.bootstrap.map(|bootstrap| bootstrap.interval_95)),
    ]
}

fn sets_needed(needed: Needed) -> TableCell {
    needed.sets.map_or(dash(), |sets| number(thousands(sets as f64), sets as f64))
}

fn seeds_needed(needed: Needed) -> TableCell {
    match needed.seeds {
        Seeds::Count(seeds) => number(thousands(seeds as f64), seeds as f64),
        Seeds::NoNumber => TableCell::from("no number".to_owned()),
        Seeds::Unknown => dash(),
    }
}

fn p_cell(p: Option<f64>) -> TableCell {
    p.map_or(dash(), |p| number(if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }, p))
}

/// An interval, sorted by its lower bound.
pub(super) fn interval(interval: Option<(f64, f64)>) -> TableCell {
    interval.map_or(dash(), |(low, high)| number(format!("{low:.1} to {high:.1}"), low))
}

pub(super) fn number(text: String, value: f64) -> TableCell {
    TableCell { value: Some(value), ..TableCell::from(text) }
}

pub(super) fn dash() -> TableCell {
    TableCell::from(DASH.to_owned())
}
