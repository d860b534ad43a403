//! One table over backbones: for each method the mean over sets and the trained parameters on each of them.

use crate::comparison::Comparison;
use crate::table::comparison::{average_entry, interval_entry};
use crate::table::differences::{dash, number};
use crate::table::{Column, Table, TableCell, TableRow};
use crate::text::thousands;

/// The comparisons of one suite and profile side by side, in the order given; `None` for fewer than two. A method
/// that was not run on a backbone has dashes there.
pub fn over_backbones(comparisons: &[&Comparison]) -> Option<Table> {
    let first = comparisons.first().filter(|_| comparisons.len() > 1)?;
    let mut labels: Vec<&str> = Vec::new();
    for row in comparisons.iter().flat_map(|comparison| &comparison.rows) {
        if !labels.contains(&row.label.as_str()) {
            labels.push(&row.label);
        }
    }
    let row = |label: &str| TableRow {
        label: label.into(),
        cells: comparisons.iter().flat_map(|comparison| cells(comparison, label)).collect(),
    };
    let counts: Vec<String> = comparisons
        .iter()
        .map(|one| format!("{}: {} sets, {} seeds", one.backbone, one.datasets.len(), one.seeds.len()))
        .collect();
    Some(Table {
        name: format!("{}-{}-backbones", first.suite, first.profile),
        caption: format!(
            "{}, profile {}: mean over sets by backbone, in %.",
            first.suite.to_uppercase(),
            first.profile
        ),
        corner: "method".into(),
        columns: comparisons.iter().flat_map(|comparison| columns(&comparison.backbone)).collect(),
        rows: labels.into_iter().map(row).collect(),
        notes: vec![
            format!("{}. Mean ± sd over seeds; the interval is Student's, over seeds.", counts.join("; ")),
            "Differences between backbones are not tested: their pre-training differs.".into(),
        ],
    })
}

fn columns(backbone: &str) -> [Column; 3] {
    ["mean of sets", "95 % interval", "trained parameters"]
        .map(|header| Column { group: backbone.into(), header: header.into() })
}

fn cells(comparison: &Comparison, label: &str) -> [TableCell; 3] {
    let Some(row) = comparison.rows.iter().find(|row| row.label == label) else {
        return [dash(), dash(), dash()];
    };
    let trained = row.parameters.trainable;
    [
        average_entry(&row.mean_of_sets).into_cell(),
        interval_entry(&row.mean_of_sets).into_cell(),
        number(thousands(trained), trained),
    ]
}
