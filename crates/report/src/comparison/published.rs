//! Numbers published by others, and which of them can be compared with ours: those of the same backbone (under any of its
//! names), the same method and rank, and averages over the same sets.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::comparison::Comparison;
use crate::comparison::row::Row;
use crate::error::ReportError;
use crate::statistics::mean;

const PUBLISHED: &str = include_str!("../../../../results/reference/published.csv");
const BACKBONES: &str = include_str!("../../../../results/reference/backbones.csv");

/// The `backbone` of an alias that stands for a row without one of ours, such as ChatGPT's.
const ANY: &str = "*";

/// Suites whose sources print parameters in millions; the others print percent of the backbone.
const MILLIONS: [&str; 3] = ["vtab", "fgvc", "gic"];

/// Relative difference up to which a printed number of parameters is that of our row; they are rounded to two decimals.
const SAME_SIZE: f64 = 0.05;

/// One published number.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Published {
    /// Suite.
    pub suite: String,
    /// Backbone, as the source names it.
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
    /// `verbatim`, `val_selected` (settings chosen on a validation split), `secondary`, or `implied` by a difference in
    /// a text.
    pub kind: String,
}

/// A name of a backbone in [`Published`] and ours.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Alias {
    published: String,
    backbone: String,
    weights: AliasWeights,
}

/// Whether a source used the weights that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AliasWeights {
    Same,
    Other,
}

/// The numbers that one source prints for a method, as far as they are comparable with a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedRow {
    /// Method, as its authors name it.
    pub method: String,
    /// Backbone, as the source names it.
    pub backbone: String,
    /// Whether the source used the same pre-trained weights.
    pub same_weights: bool,
    /// Trained parameters, as printed; often empty.
    pub trainable: String,
    /// The source.
    pub source: String,
    /// See [`Published::kind`].
    pub kind: String,
    /// One for each data set of the comparison.
    pub sets: Vec<Option<f64>>,
    /// One for each group: printed if the comparison covers the suite, otherwise of the source's sets.
    pub group_means: Vec<Option<f64>>,
    /// Mean over the comparison's sets, likewise.
    pub mean_of_sets: Option<f64>,
    /// Mean of the group means, likewise.
    pub mean_of_groups: Option<f64>,
}

/// All published numbers.
///
/// # Errors
/// When results/reference/published.csv is malformed.
pub fn numbers() -> Result<Vec<Published>, ReportError> {
    read(PUBLISHED, "results/reference/published.csv")
}

/// The published rows for the suite and backbone of a comparison; those with settings chosen on a validation split
/// first.
///
/// # Errors
/// When a file of results/reference is malformed.
pub fn rows(comparison: &Comparison) -> Result<Vec<PublishedRow>, ReportError> {
    let aliases: Vec<Alias> = read(BACKBONES, "results/reference/backbones.csv")?;
    let alias = |published: &str| {
        let ours = |alias: &&Alias| {
            alias.backbone == ANY || alias.backbone.eq_ignore_ascii_case(&comparison.backbone)
        };
        aliases.iter().filter(ours).find(|alias| alias.published == published)
    };
    let numbers: Vec<Published> =
        numbers()?.into_iter().filter(|number| number.suite == comparison.suite).collect();
    let covers_suite = covers_suite(comparison, &numbers);
    let mut sources: BTreeMap<_, BTreeMap<String, f64>> = BTreeMap::new();
    for number in numbers {
        let Some(alias) = alias(&number.backbone) else { continue };
        let is_tested_on_test = number.kind != "val_selected";
        let Published { method, backbone, trainable, source, kind, .. } = number;
        let key = (
            is_tested_on_test,
            method,
            backbone,
            trainable,
            source,
            kind,
            alias.weights == AliasWeights::Same,
        );
        sources.entry(key).or_default().insert(number.dataset, number.value);
    }
    let row = |((_, method, backbone, trainable, source, kind, same_weights), values)| {
        let averages = Averages::of(comparison, &values, covers_suite);
        PublishedRow {
            method,
            backbone,
            same_weights,
            trainable,
            source,
            kind,
            sets: comparison
                .datasets
                .iter()
                .map(|set| values.get(published_name(comparison, &set.name)).copied())
                .collect(),
            group_means: averages.group_means,
            mean_of_sets: averages.mean_of_sets,
            mean_of_groups: averages.mean_of_groups,
        }
    };
    Ok(sources.into_iter().map(row).collect())
}

impl PublishedRow {
    /// Whether the name in the source refers to the method of a row: its label or a name under which the method was
    /// published, and the same rank (`LoRA-8`, `DoRA r16`) and number of trained parameters where the source states
    /// them.
    pub fn is_of(&self, suite: &str, row: &Row) -> bool {
        let (name, size) = split_size(&self.method);
        let is_name =
            |other: &str| other.eq_ignore_ascii_case(&self.method) || other.eq_ignore_ascii_case(name);
        let named = is_name(&row.label) || row.published_as.iter().any(|published| is_name(published));
        let same_size = size.is_none_or(|size| row.size.is_none_or(|ours| ours == size));
        named && same_size && self.has_parameters_of(suite, row)
    }

    fn has_parameters_of(&self, suite: &str, row: &Row) -> bool {
        let Ok(printed) = self.trainable.parse::<f64>() else { return true };
        let ours =
            if MILLIONS.contains(&suite) { row.parameters.trainable / 1e6 } else { row.parameters.share };
        // A source that trains everything prints 100 percent.
        (ours - printed).abs() <= SAME_SIZE * printed.max(0.1) || printed >= 99.0 && ours > 90.0
    }
}

/// `LoRA-8` is LoRA of rank 8, `DoRA r16` DoRA of rank 16; other names have no size.
fn split_size(name: &str) -> (&str, Option<u64>) {
    let digits = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let base = digits.strip_suffix(" r").or_else(|| digits.strip_suffix('-'));
    match (base, name[digits.len()..].parse()) {
        (Some(base), Ok(size)) => (base, Some(size)),
        _ => (name, None),
    }
}

/// The suite's own prefix distinguishes sets of two suites (`gic_cifar100`); sources have no need for it.
fn published_name<'a>(comparison: &Comparison, set: &'a str) -> &'a str {
    set.strip_prefix(&comparison.suite).and_then(|rest| rest.strip_prefix('_')).unwrap_or(set)
}

/// Whether the comparison has every set of which a source prints a number.
fn covers_suite(comparison: &Comparison, numbers: &[Published]) -> bool {
    let is_set = |name: &&str| !name.starts_with("group:") && !["mean_of_groups", "average"].contains(name);
    let all: BTreeSet<&str> = numbers.iter().map(|number| number.dataset.as_str()).filter(is_set).collect();
    let ours: BTreeSet<&str> =
        comparison.datasets.iter().map(|set| published_name(comparison, &set.name)).collect();
    all == ours
}

struct Averages {
    group_means: Vec<Option<f64>>,
    mean_of_sets: Option<f64>,
    mean_of_groups: Option<f64>,
}

impl Averages {
    /// Printed averages are over all sets of a suite, so they are used only where the comparison is as well.
    fn of(comparison: &Comparison, values: &BTreeMap<String, f64>, covers_suite: bool) -> Self {
        let printed = |name: &str| values.get(name).copied().filter(|_| covers_suite);
        let of_sets = |sets: &mut dyn Iterator<Item = &str>| {
            let values: Option<Vec<f64>> =
                sets.map(|set| values.get(published_name(comparison, set)).copied()).collect();
            mean(&values?)
        };
        let group_means: Vec<Option<f64>> = comparison
            .groups
            .iter()
            .map(|group| {
                let mut sets = group.datasets.iter().map(|&index| comparison.datasets[index].name.as_str());
                printed(&format!("group:{}", group.name)).or_else(|| of_sets(&mut sets))
            })
            .collect();
        let all = || comparison.datasets.iter().map(|set| set.name.as_str());
        let of_groups =
            group_means.iter().copied().collect::<Option<Vec<f64>>>().and_then(|means| mean(&means));
        Self {
            mean_of_sets: of_sets(&mut all()).or_else(|| printed("average")),
            mean_of_groups: printed("mean_of_groups").or(of_groups),
            group_means,
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(text: &'static str, what: &str) -> Result<Vec<T>, ReportError> {
    let fault = |error: csv::Error| ReportError::Format { what: what.into(), reason: error.to_string() };
    csv::Reader::from_reader(text.as_bytes()).deserialize().collect::<Result<_, _>>().map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_told_from_a_name() {
        assert_eq!(split_size("LoRA-8"), ("LoRA", Some(8)));
        assert_eq!(split_size("DoRA r16"), ("DoRA", Some(16)));
        assert_eq!(split_size("VPT-Deep"), ("VPT-Deep", None));
        assert_eq!(split_size("IA3"), ("IA3", None));
    }
}
