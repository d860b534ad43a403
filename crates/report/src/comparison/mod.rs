//! The methods of one suite, profile and backbone, compared: every number that a table or a figure shows, without
//! layout.
//!
//! [`row`] reduces a method's records to cells and averages, [`difference`] tests methods against the baselines and the
//! best by the mean differences of [`estimate`], [`aggregates`] summarises each method, [`items`] compares over
//! individual predictions, [`ranking`] ranks over data sets, [`published`] finds numbers of others, [`origin`] describes
//! where the records come from, `prior` reports the question-only prior, `pending` lists what only a server can score,
//! and `yes_or_no` gives the counts that an F1 is computed from. A [`Comparison`] serialises to the summary that
//! `--json` prints. Accuracies are in percent from here on.

pub mod aggregates;
pub mod difference;
pub mod estimate;
pub mod frame;
pub mod items;
pub mod left_out;
pub mod origin;
mod pending;
mod prior;
pub mod progress;
pub mod published;
pub mod ranking;
pub mod row;
mod yes_or_no;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::ReportError;
use crate::load::Stored;
use crate::load::plans::RunPlan;
use crate::record::Record;
use aggregates::Aggregates;
use difference::{Best, Difference};
use items::ItemAnswers;
use left_out::LeftOut;
use origin::Origin;
use progress::Progress;
use ranking::Ranking;
use row::Row;

/// Registry name of the method under study.
pub const STUDIED: &str = "san";

/// One table's worth of results.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// `vtab`, `fgvc`, ...
    pub suite: String,
    /// `embedded`, `small` or `paper`: a comparison never mixes them.
    pub profile: String,
    /// The frozen model.
    pub backbone: String,
    /// Where the records come from, and under which protocol.
    pub origin: Origin,
    /// Seeds of all records and planned runs, ascending; every row should have each of them.
    pub seeds: Vec<u64>,
    /// Data sets of all records, in registry order.
    pub datasets: Vec<DatasetColumn>,
    /// Their groups, in order of first appearance.
    pub groups: Vec<Group>,
    /// The methods.
    pub rows: Vec<Row>,
    /// Whether one model is trained for all sets, so that the scores of a seed are not independent.
    pub shared_trainings: bool,
    /// Each method against the baselines.
    pub differences: Vec<Difference>,
    /// The best complete method and those that do not differ significantly from it.
    pub best: Option<Best>,
    /// Aggregates over sets and seeds of the complete methods.
    pub aggregates: Vec<Aggregates>,
    /// Average ranks over the data sets; `None` for fewer than two complete methods.
    pub ranking: Option<Ranking>,
    /// Methods that were left out on some data sets because they do not fit into the memory of the device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// How much of the plan is finished; `None` if no command planned the records.
    pub progress: Option<Progress>,
    /// Distinguishes the file names of this comparison from those of a larger one of the same suite, profile and backbone.
    pub(crate) variant: Option<String>,
    /// Its records, by method, data set and seed.
    #[serde(skip)]
    pub(crate) records: Vec<Stored>,
}

/// A data set as a column of the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DatasetColumn {
    /// Position in the suite's table.
    pub order: u32,
    /// Name; `mini/` marks a procedurally generated stand-in.
    pub name: String,
    /// The suite's group.
    pub group: String,
}

/// A group of data sets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// For example `natural`.
    pub name: String,
    /// Indices into [`Comparison::datasets`].
    pub datasets: Vec<usize>,
}

/// Splits records by suite, profile and backbone and compares the methods of each group.
///
/// # Errors
/// When two records have the same method, data set and seed, or a predictions file is damaged.
pub fn comparisons(mut records: Vec<Stored>, plan: Option<&RunPlan>) -> Result<Vec<Comparison>, ReportError> {
    // From here on the order of the files does not matter.
    records.sort_by_cached_key(|stored| (key(&stored.record), stored.path.clone()));
    let groups = frame::groups(&frame::of_records(&records)?, &["suite", "profile", "backbone"])?;
    let mut records: Vec<Option<Stored>> = records.into_iter().map(Some).collect();
    groups
        .into_iter()
        .map(|rows| compare(rows.iter().filter_map(|&row| records[row].take()).collect(), plan))
        .collect()
}

/// Gives comparisons of one suite, profile and backbone different names: the one with the most records keeps the plain
/// name, so that a subset that was run with other settings never overwrites its files.
pub(crate) fn disambiguate_names(comparisons: &mut [Comparison]) {
    let widest = |name: &str| -> Option<usize> {
        let same = comparisons.iter().enumerate().filter(|(_, other)| other.name() == name);
        same.max_by_key(|(place, other)| (other.records.len(), Reverse(*place))).map(|(place, _)| place)
    };
    let plain: Vec<bool> = comparisons
        .iter()
        .enumerate()
        .map(|(place, comparison)| widest(&comparison.name()) == Some(place))
        .collect();
    for (comparison, plain) in comparisons.iter_mut().zip(plain) {
        if !plain {
            comparison.variant = comparison.progress.as_ref().map(|progress| progress.settings.clone());
        }
    }
}

impl Comparison {
    /// The records of the comparison, by method, data set and seed.
    pub fn records(&self) -> &[Stored] {
        &self.records
    }

    /// Name of the experiment that its runs belong to.
    pub fn experiment(&self) -> &str {
        self.records.first().map_or(&self.suite, |stored| &stored.record.experiment)
    }

    /// Suite, profile, backbone and any suffix that distinguishes it from a larger comparison, as one word for file names.
    pub fn name(&self) -> String {
        let variant = self.variant.as_ref().map_or(String::new(), |variant| format!("-{variant}"));
        let name = format!("{}-{}-{}{variant}", self.suite, self.profile, self.backbone);
        name.chars()
            .map(|letter| if letter == '/' || letter.is_whitespace() { '_' } else { letter })
            .collect()
    }
}

type Key = (String, String, String, Option<u32>, String, u32, String, u64);

fn key(record: &Record) -> Key {
    (
        record.suite.clone(),
        record.profile.clone(),
        record.backbone.name.clone(),
        record.method.position,
        record.method.label.clone(),
        record.dataset.order,
        record.dataset.name.clone(),
        record.seed,
    )
}

/// Compares records of one suite, profile and backbone, already in the order of [`key`].
fn compare(records: Vec<Stored>, plan: Option<&RunPlan>) -> Result<Comparison, ReportError> {
    reject_duplicates(&records)?;
    let first = &records[0].record;
    let (suite, profile, backbone) =
        (first.suite.clone(), first.profile.clone(), first.backbone.name.clone());
    let progress = plan.map(|plan| Progress::of(plan, &backbone, &records));
    let left_out = plan.map_or_else(Vec::new, |plan| LeftOut::of(plan, &backbone, &records));
    let planned = progress.iter().flat_map(|progress| &progress.seeds);
    let seeds = records.iter().map(|stored| &stored.record.seed).chain(planned);
    let seeds: Vec<u64> = seeds.copied().collect::<BTreeSet<_>>().into_iter().collect();
    let datasets = dataset_columns(&records);
    let groups = dataset_groups(&datasets);
    let methods = frame::groups(&frame::of_records(&records)?, &["label"])?;
    let rows: Vec<Row> = methods
        .into_iter()
        .map(|indices| {
            let of_method: Vec<&Record> = indices.iter().map(|&index| &records[index].record).collect();
            Row::of(&of_method, &datasets, &groups, &seeds)
        })
        .collect();
    // The same items with another seed are not new items.
    let answers = seeds.first().map(|&seed| ItemAnswers::read(&records, seed)).transpose()?;
    let item_test = |method: &str, baseline: &str| answers.as_ref()?.test(method, baseline, &datasets);
    let shared_trainings = records.iter().any(|stored| stored.is_part);
    let differences = difference::against_baselines(&rows, shared_trainings, &item_test);
    let best = Best::of(&rows, shared_trainings);
    let aggregates = aggregates::of_rows(&rows, shared_trainings);
    let ranking = Ranking::of(&rows);
    let origin = Origin::of(&records, &datasets);
    Ok(Comparison {
        suite,
        profile,
        backbone,
        origin,
        seeds,
        datasets,
        groups,
        rows,
        shared_trainings,
        differences,
        best,
        aggregates,
        ranking,
        left_out,
        progress,
        variant: None,
        records,
    })
}

fn dataset_columns(records: &[Stored]) -> Vec<DatasetColumn> {
    let columns: BTreeSet<DatasetColumn> = records
        .iter()
        .map(|Stored { record: Record { dataset, .. }, .. }| DatasetColumn {
            order: dataset.order,
            name: dataset.name.clone(),
            group: dataset.group.clone(),
        })
        .collect();
    columns.into_iter().collect()
}

fn dataset_groups(datasets: &[DatasetColumn]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, dataset) in datasets.iter().enumerate() {
        match groups.iter_mut().find(|group| group.name == dataset.group) {
            Some(group) => group.datasets.push(index),
            None => groups.push(Group { name: dataset.group.clone(), datasets: vec![index] }),
        }
    }
    groups
}

fn reject_duplicates(records: &[Stored]) -> Result<(), ReportError> {
    let mut seen: BTreeMap<(&str, &str, u64), &Stored> = BTreeMap::new();
    for stored in records {
        let Record { method, dataset, seed, .. } = &stored.record;
        if let Some(earlier) = seen.insert((&method.label, &dataset.name, *seed), stored) {
            return Err(ReportError::Duplicate {
                place: format!("{}, {}, seed {seed}", method.label, dataset.name),
                first: earlier.path.clone(),
                second: stored.path.clone(),
                differing: origin::differing_fields(&earlier.record, &stored.record),
            });
        }
    }
    Ok(())
}
