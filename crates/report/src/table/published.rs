//! Rows published by others for the backbones of the paper, and our differences from them, as separate tables.
//!
//! They are shown only next to results of the profile `paper`: other profiles use other models or data. The numbers and
//! their sources are in results/reference/published.csv.

use crate::comparison::Comparison;
use crate::comparison::published::{self, PublishedRow};
use crate::comparison::row::{Average, Row};
use crate::error::ReportError;
use crate::table::differences::{dash, number};
use crate::table::{Column, Table, TableCell, TableRow};

/// The only profile with which published rows can be compared.
pub(crate) const COMPARABLE_PROFILE: &str = "paper";

/// The published rows for the suite and backbone of a comparison; `None` if there are none or they are not comparable.
///
/// # Errors
/// When a file of results/reference is malformed.
pub fn table(comparison: &Comparison) -> Result<Option<Table>, ReportError> {
    let rows = comparable(comparison)?;
    let row = |published: &PublishedRow| {
        let cells = values(comparison, published)
            .into_iter()
            .map(|value| value.map_or(dash(), |value| number(format!("{value:.1}"), value)));
        TableRow { label: published.method.clone(), cells: cells.chain(origin(published)).collect() }
    };
    Ok((!rows.is_empty()).then(|| Table {
        name: format!("{}-published", comparison.name()),
        caption: format!("Published by others for {}, in %; not measured here.", comparison.title()),
        corner: "method".into(),
        columns: columns(comparison),
        rows: rows.iter().map(row).collect(),
        notes: vec![
            "Their protocols differ from ours and from each other's. `val_selected`: settings chosen on a validation \
             split, test read once; the others mostly choose the epoch on the test split. `secondary`: quoted by \
             another paper; `implied`: from differences stated in a text. An average that a source prints is shown only \
             where all its sets are here; otherwise it is computed from the source's values on these sets."
                .into(),
            "Rows with the remark `other weights` start from other pre-trained weights, or from another model.".into(),
        ],
    }))
}

/// Our numbers minus the published ones of the same method, one row per source; `None` if [`table`] is `None` or no
/// method is in both.
///
/// # Errors
/// As [`table`].
pub fn differences(comparison: &Comparison) -> Result<Option<Table>, ReportError> {
    let published = comparable(comparison)?;
    let mut rows = Vec::new();
    for ours in &comparison.rows {
        for theirs in published.iter().filter(|theirs| theirs.is_of(&comparison.suite, ours)) {
            let pairs = our_values(comparison, ours).into_iter().zip(values(comparison, theirs));
            let cells = pairs.map(|(ours, theirs)| difference(ours, theirs));
            rows.push(TableRow {
                label: format!("{} - {}", ours.label, theirs.method),
                cells: cells.chain(origin(theirs)).collect(),
            });
        }
    }
    Ok((!rows.is_empty()).then(|| Table {
        name: format!("{}-against-published", comparison.name()),
        caption: format!("Ours minus published for {}, in points.", comparison.title()),
        corner: "difference".into(),
        columns: columns(comparison),
        rows,
        notes: vec![
            "-: not in the source, or one of our runs diverged or is missing. Intervals: Student's, 95 %, over our \
             seeds; the published number is taken as it is, since sources print no spread that could be used."
                .into(),
        ],
    }))
}

fn comparable(comparison: &Comparison) -> Result<Vec<PublishedRow>, ReportError> {
    if comparison.profile == COMPARABLE_PROFILE { published::rows(comparison) } else { Ok(Vec::new()) }
}

/// One of our numbers with its interval over seeds.
type Ours = Option<(f64, Option<(f64, f64)>)>;

fn difference(ours: Ours, theirs: Option<f64>) -> TableCell {
    let Some(((ours, interval), theirs)) = ours.zip(theirs) else { return dash() };
    let mut text = format!("{:+.1}", ours - theirs);
    if let Some((low, high)) = interval {
        text += &format!(" [{:+.1}, {:+.1}]", low - theirs, high - theirs);
    }
    number(text, ours - theirs)
}

/// Data sets, group means and both averages, in the order of [`columns`]; only complete values.
fn our_values(comparison: &Comparison, row: &Row) -> Vec<Ours> {
    let of_average = |average: &Average| {
        average.spread.filter(|_| average.is_complete()).map(|spread| (spread.mean, spread.interval_95))
    };
    let sets = row.cells.iter().map(|cell| {
        cell.spread.filter(|_| cell.is_complete()).map(|spread| (spread.mean, spread.interval_95))
    });
    let mut values: Vec<Ours> = sets.collect();
    if is_grouped(comparison) {
        values.extend(row.group_means.iter().map(of_average));
    }
    values.push(of_average(&row.mean_of_sets));
    if is_grouped(comparison) {
        values.push(of_average(&row.mean_of_groups));
    }
    values
}

/// The same of a published row.
fn values(comparison: &Comparison, row: &PublishedRow) -> Vec<Option<f64>> {
    let mut values = row.sets.clone();
    if is_grouped(comparison) {
        values.extend(&row.group_means);
    }
    values.push(row.mean_of_sets);
    if is_grouped(comparison) {
        values.push(row.mean_of_groups);
    }
    values
}

/// A suite of one group has no group means in addition to the mean over its data sets.
fn is_grouped(comparison: &Comparison) -> bool {
    comparison.groups.len() > 1
}

fn columns(comparison: &Comparison) -> Vec<Column> {
    let column = |group: &str, header: &str| Column { group: group.into(), header: header.into() };
    let mut columns: Vec<Column> =
        comparison.datasets.iter().map(|dataset| column(&dataset.group, &dataset.name)).collect();
    if is_grouped(comparison) {
        let groups = comparison.groups.iter();
        columns.extend(groups.map(|group| column("averages", &format!("{} mean", group.name))));
    }
    columns.push(column("averages", "mean of sets"));
    if is_grouped(comparison) {
        columns.push(column("averages", "mean of groups"));
    }
    let origin = ["trained, as printed", "source", "kind", "remark"];
    columns.extend(origin.map(|header| column("origin", header)));
    columns
}

fn origin(row: &PublishedRow) -> [TableCell; 4] {
    let remark = if row.same_weights { String::new() } else { format!("other weights: {}", row.backbone) };
    let trainable = if row.trainable.is_empty() { "-".to_owned() } else { row.trainable.clone() };
    [trainable, row.source.clone(), row.kind.clone(), remark].map(TableCell::from)
}
