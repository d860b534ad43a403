//! Rows published by others for the backbones of the paper, as a separate table.
//!
//! They are shown only below results of the profile `paper`: other profiles use other models or data. The rows and their sources are in results/reference/published.csv.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::comparison::row::{Average, Row};
use crate::comparison::{Comparison, DatasetColumn};
use crate::error::ReportError;
use crate::statistics::mean;
use crate::table::{Column, Table, TableCell, TableRow};

/// The only profile with which published rows can be compared.
pub(crate) const COMPARABLE_PROFILE: &str = "paper";

const PUBLISHED: &str = include_str!("../../../../results/reference/published.csv");

/// One published number.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Published {
    /// Suite.
    pub suite: String,
    /// Backbone.
    pub backbone: String,
    /// Method, as its authors name it.
    pub method: String,
    /// Trained parameters, as printed; often empty.
    pub trainable: String,
    /// Data set, `group:<name>`, `mean_of_groups` or `average`.
    pub dataset: String,
    /// Metric.
    pub metric: String,
    /// Value, in percent.
    pub value: f64,
    /// The source.
    pub source: String,
    /// `verbatim`, `secondary`, or `implied` by a difference in a text.
    pub kind: String,
}

/// All published rows.
///
/// # Errors
/// When results/reference/published.csv is malformed.
pub fn rows() -> Result<Vec<Published>, ReportError> {
    csv::Reader::from_reader(PUBLISHED.as_bytes()).deserialize().collect::<Result<_, _>>().map_err(
        |error: csv::Error| ReportError::Format {
            what: "results/reference/published.csv".into(),
            reason: error.to_string(),
        },
    )
}

/// The published rows for the suite and backbone of a comparison; `None` if there are none or they are not comparable.
///
/// # Errors
/// As [`rows`].
pub fn table(comparison: &Comparison) -> Result<Option<Table>, ReportError> {
    if comparison.profile != COMPARABLE_PROFILE {
        return Ok(None);
    }
    let mut methods: BTreeMap<(String, String, String), BTreeMap<String, f64>> = BTreeMap::new();
    for row in rows()? {
        if row.suite == comparison.suite && row.backbone == comparison.backbone {
            methods.entry((row.method, row.source, row.kind)).or_default().insert(row.dataset, row.value);
        }
    }
    if methods.is_empty() {
        return Ok(None);
    }
    let rows = methods.into_iter().map(|((method, source, kind), values)| {
        let mut cells = cells(comparison, &values);
        cells.extend([TableCell::from(source), TableCell::from(kind)]);
        TableRow { label: method, cells }
    });
    Ok(Some(Table {
        name: format!("{}-published", comparison.name()),
        caption: format!(
            "Published by others for {} on {}: top-1 accuracy in %; not measured here.",
            comparison.backbone,
            comparison.suite.to_uppercase()
        ),
        corner: "method".into(),
        columns: columns(comparison),
        rows: rows.collect(),
        notes: vec![
            "Their protocols differ from ours and from each other's; most choose the epoch on the test split. \
             Group means and averages that a source does not print are computed from its sets; `implied` \
             numbers come from differences stated in a text."
                .into(),
        ],
    }))
}

/// Whether the name in a source refers to the method of a row, by its label or by a name under which the method was
/// published; a size suffix (`-8`, ` r16`) is ignored.
fn is_same_method(published: &str, row: &Row) -> bool {
    if published.eq_ignore_ascii_case(&row.label) {
        return true;
    }
    let size =
        |text: &str| text.trim_start_matches(['-', ' ', 'r']).chars().all(|letter| letter.is_ascii_digit());
    row.published_as.iter().any(|name| published.strip_prefix(name.as_str()).is_some_and(size))
}

/// Our numbers minus the published ones of the same method, one row per source; `None` if [`table`] is `None` or no
/// method is in both.
///
/// # Errors
/// As [`rows`].
pub fn differences(comparison: &Comparison) -> Result<Option<Table>, ReportError> {
    let Some(published) = table(comparison)? else { return Ok(None) };
    let mut rows = Vec::new();
    for ours in &comparison.rows {
        let values = our_values(comparison, ours);
        for theirs in published.rows.iter().filter(|theirs| is_same_method(&theirs.label, ours)) {
            let numbers = values.iter().zip(&theirs.cells).map(|(ours, theirs)| {
                let difference = ours.zip(theirs.value).map(|(ours, theirs)| ours - theirs);
                let text = difference.map_or("-".into(), |difference| format!("{difference:+.1}"));
                TableCell { value: difference, ..TableCell::from(text) }
            });
            let cells = numbers.chain(theirs.cells[values.len()..].iter().cloned()).collect();
            rows.push(TableRow { label: format!("{} - {}", ours.label, theirs.label), cells });
        }
    }
    Ok((!rows.is_empty()).then(|| Table {
        name: format!("{}-against-published", comparison.name()),
        caption: format!(
            "Ours minus published for {} on {}, in points.",
            comparison.backbone,
            comparison.suite.to_uppercase()
        ),
        rows,
        notes: vec!["-: not in the source, or one of our runs diverged or is missing.".into()],
        ..published
    }))
}

/// Data sets, group means and both averages, in the order of [`columns`]; only complete values.
fn our_values(comparison: &Comparison, row: &Row) -> Vec<Option<f64>> {
    let average =
        |average: &Average| average.spread.filter(|_| average.is_complete()).map(|spread| spread.mean);
    let sets =
        row.cells.iter().map(|cell| cell.spread.filter(|_| cell.is_complete()).map(|spread| spread.mean));
    debug_assert_eq!(row.cells.len(), comparison.datasets.len());
    let means = if grouped(comparison) {
        let both = [average(&row.mean_of_sets), average(&row.mean_of_groups)];
        row.group_means.iter().map(average).chain(both).collect()
    } else {
        vec![average(&row.mean_of_sets)]
    };
    sets.chain(means).collect()
}

/// A suite of one group has no group means in addition to the mean over its data sets.
fn grouped(comparison: &Comparison) -> bool {
    comparison.groups.len() > 1
}

fn columns(comparison: &Comparison) -> Vec<Column> {
    let sets = comparison
        .datasets
        .iter()
        .map(|dataset| Column { group: dataset.group.clone(), header: dataset.name.clone() });
    let groups = comparison
        .groups
        .iter()
        .filter(|_| grouped(comparison))
        .map(|group| Column { group: "averages".into(), header: format!("{} mean", group.name) });
    let rest = [
        ("averages", "mean of sets"),
        ("averages", "mean of groups"),
        ("origin", "source"),
        ("origin", "kind"),
    ];
    let rest = rest.into_iter().filter(|(_, header)| grouped(comparison) || *header != "mean of groups");
    let rest = rest.map(|(group, header)| Column { group: group.into(), header: header.into() });
    sets.chain(groups).chain(rest).collect()
}

fn cells(comparison: &Comparison, values: &BTreeMap<String, f64>) -> Vec<TableCell> {
    let of_sets = |sets: &[&DatasetColumn]| -> Option<f64> {
        let values: Option<Vec<f64>> = sets.iter().map(|set| values.get(&set.name).copied()).collect();
        mean(&values?)
    };
    let all: Vec<&DatasetColumn> = comparison.datasets.iter().collect();
    let groups: Vec<Option<f64>> = comparison
        .groups
        .iter()
        .map(|group| {
            let sets: Vec<&DatasetColumn> =
                group.datasets.iter().map(|&index| &comparison.datasets[index]).collect();
            values.get(&format!("group:{}", group.name)).copied().or_else(|| of_sets(&sets))
        })
        .collect();
    let mean_of_sets = values.get("average").copied().or_else(|| of_sets(&all));
    let computed = groups.iter().copied().collect::<Option<Vec<f64>>>().and_then(|groups| mean(&groups));
    let mean_of_groups = values.get("mean_of_groups").copied().or(computed);
    let sets = all.iter().map(|set| values.get(&set.name).copied());
    let means = if grouped(comparison) {
        groups.into_iter().chain([mean_of_sets, mean_of_groups]).collect()
    } else {
        vec![mean_of_sets]
    };
    sets.chain(means)
        .map(|value| {
            let text = value.map_or("-".into(), |value| format!("{value:.1}"));
            TableCell { value, ..TableCell::from(text) }
        })
        .collect()
}
