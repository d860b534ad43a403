//! Robust aggregates of the complete methods as a table.

use crate::comparison::Comparison;
use crate::comparison::aggregates::{Aggregates, Interval};
use crate::table::differences::{dash, interval, number};
use crate::table::{Column, Table, TableCell, TableRow};

impl Comparison {
    /// One row for each complete method; `None` for fewer than two, or on a single set.
    pub(super) fn aggregates_table(&self) -> Option<Table> {
        (self.aggregates.len() > 1 && self.datasets.len() > 1).then(|| Table {
            name: format!("{}-aggregates", self.name()),
            caption: format!("{}: aggregates over sets and seeds, in %.", self.title()),
            corner: "method".into(),
            columns: columns(),
            rows: self.aggregates.iter().map(row).collect(),
            notes: vec![
                "As defined by rliable (Agarwal et al. 2021). Interquartile mean: of the middle half of all scores. \
                 Optimality gap: how far scores are below the best method's mean on their set, in percent of it. \
                 Better than LoRA: probability that a training scores higher than one of LoRA on the same set. \
                 Intervals (95 %): bootstrap of trainings within sets, widened for the number of seeds; the sets are \
                 fixed, so they say nothing about other sets."
                    .into(),
            ],
        })
    }
}

fn columns() -> Vec<Column> {
    let groups = ["interquartile mean", "optimality gap", "better than LoRA"];
    let column = |group: &str, header: &str| Column { group: group.into(), header: header.into() };
    groups.iter().flat_map(|group| [column(group, group), column(group, "95 % interval")]).collect()
}

fn row(aggregates: &Aggregates) -> TableRow {
    let numbers =
        [Some(aggregates.interquartile_mean), Some(aggregates.optimality_gap), aggregates.improvement];
    TableRow { label: aggregates.label.clone(), cells: numbers.into_iter().flat_map(pair).collect() }
}

fn pair(value: Option<Interval>) -> [TableCell; 2] {
    match value {
        Some(Interval { value, interval_95 }) => {
            [number(format!("{value:.1}"), value), interval(interval_95)]
        }
        None => [dash(), dash()],
    }
}
