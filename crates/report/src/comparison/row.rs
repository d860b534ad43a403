//! One method: its cells over data sets and seeds, its averages, its size and its cost.
//!
//! An average is formed for each seed first; its spread is over seeds. A run that diverged or is missing is never silently
//! dropped: it stays in the cell, and an average that lacks a data set is not formed, because it could not be compared with
//! the others.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;

use crate::comparison::{DatasetColumn, Group};
use crate::record::{Record, State};
use crate::statistics::{Scores, Spread, mean};

/// A method's results.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Registry name of the method.
    pub method: String,
    /// Name in the table.
    pub label: String,
    /// Names under which other papers' tables list the method.
    pub published_as: Vec<String>,
    /// Its rank, bottleneck or number of prompts, if it has one.
    pub size: Option<u64>,
    /// One per data set.
    pub cells: Vec<Cell>,
    /// One per group.
    pub group_means: Vec<Average>,
    /// Mean over all data sets.
    pub mean_of_sets: Average,
    /// Mean of the group means; it differs from [`Row::mean_of_sets`] if groups differ in size.
    pub mean_of_groups: Average,
    /// The result of the common convention of selecting the epoch on the test split, if it was evaluated.
    pub test_selected: Option<TestSelected>,
    /// Percentage of texts without an answer, mean over cells; `None` if every evaluation yields an answer.
    pub no_answer: Option<f64>,
    /// Increase of the mean loss on a neutral text, in nats per token, mean over cells; `None` if it was not measured.
    pub forgetting: Option<f64>,
    /// Number of settings tried on val for each cell.
    pub tuning: TuningBudget,
    /// Sizes.
    pub parameters: ParameterSummary,
    /// Costs.
    pub cost: CostSummary,
}

/// How the run of one seed ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Top-1 accuracy in percent.
    Accuracy(f64),
    /// Training stopped because a value was not finite.
    Diverged,
    /// There is no record.
    Missing,
}

/// One method on one data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// In the order of the comparison's seeds.
    pub outcomes: Vec<Outcome>,
    /// Spread over the seeds that have an accuracy.
    pub spread: Option<Spread>,
}

/// An average over data sets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Average {
    /// Spread of the seeds' averages, in percent; `None` if a data set is missing.
    pub spread: Option<Spread>,
    /// Number of data sets with an accuracy for each seed that the method was run with.
    pub sets: usize,
    /// Number of data sets that it should cover.
    pub expected_sets: usize,
    /// Number of seeds that it should cover.
    pub expected_seeds: usize,
}

/// Test-selected accuracy next to the reported one, over the runs that have both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TestSelected {
    /// Mean of the best epochs' accuracies on the test split, in percent.
    pub accuracy: f64,
    /// Its excess over the reported accuracy of the same cells, in points: the optimism of selecting on the test split.
    pub optimism: f64,
    /// Number of cells that have both.
    pub cells: usize,
}

/// Settings that were tried on the validation split before the final run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TuningBudget {
    /// Of the cell with the fewest; 0 if the settings were fixed in advance.
    pub fewest: usize,
    /// Of the cell with the most.
    pub most: usize,
}

/// Numbers of parameters of a method.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ParameterSummary {
    /// All parameters of the backbone.
    pub backbone: u64,
    /// Trained parameters without the head; mean over cells.
    pub trainable: f64,
    /// Of the head; mean over cells, because it depends on the number of classes.
    pub head: f64,
    /// Trained parameters in percent of the backbone.
    pub share: f64,
}

/// What a method costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CostSummary {
    /// Training time of a finished run in seconds, mean.
    pub train_seconds: Option<f64>,
    /// Peak memory of the worker in bytes, maximum over all runs.
    pub peak_memory: Option<u64>,
    /// The most runs that were trained together.
    pub group_size: u32,
    /// Size of the adapter file of a finished run in bytes, mean.
    pub adapter_bytes: Option<f64>,
}

impl Row {
    /// Reduces the records of one method (at least one; no two of the same set and seed).
    pub(super) fn of(
        records: &[&Record],
        datasets: &[DatasetColumn],
        groups: &[Group],
        seeds: &[u64],
    ) -> Self {
        let mut of_sets: HashMap<&str, Vec<&Record>> = HashMap::new();
        for record in records {
            of_sets.entry(&record.dataset.name).or_default().push(record);
        }
        let cell = |dataset: &DatasetColumn| {
            Cell::of(of_sets.get(dataset.name.as_str()).map_or(&[], Vec::as_slice), seeds)
        };
        let cells: Vec<Cell> = datasets.iter().map(cell).collect();
        let group_cells: Vec<Vec<&Cell>> =
            groups.iter().map(|group| group.datasets.iter().map(|&index| &cells[index]).collect()).collect();
        let all_cells: Vec<&Cell> = cells.iter().collect();
        let run = seeds_run(&cells, seeds.len());
        let average = |groups: &[Vec<&Cell>]| Average::of(groups, &run, seeds.len());
        Self {
            method: records[0].method.name.clone(),
            label: records[0].method.label.clone(),
            published_as: records[0].method.published_as.clone(),
            size: size(&records[0].method.config),
            group_means: group_cells.iter().map(|group| average(std::slice::from_ref(group))).collect(),
            mean_of_sets: average(&[all_cells]),
            mean_of_groups: average(&group_cells),
            test_selected: TestSelected::of(records),
            no_answer: over_cells(records, |record| record.metrics.no_answer.map(|share| 100.0 * share)),
            forgetting: over_cells(records, |record| {
                record.metrics.forgetting.map(|forgetting| forgetting.after - forgetting.before)
            }),
            tuning: TuningBudget::of(records),
            parameters: ParameterSummary::of(records),
            cost: CostSummary::of(records),
            cells,
        }
    }

    /// All scores, by set and seed; `None` if one is missing.
    pub(super) fn scores(&self, shared: bool) -> Option<Scores> {
        let of_cell = |cell: &Cell| cell.outcomes.iter().map(|outcome| outcome.accuracy()).collect();
        Some(Scores { sets: self.cells.iter().map(of_cell).collect::<Option<_>>()?, shared })
    }
}

impl Cell {
    /// Of the records of one method on one set.
    fn of(records: &[&Record], seeds: &[u64]) -> Self {
        let outcome = |seed: &u64| {
            let found = records.iter().find(|record| record.seed == *seed);
            match found.map(|record| (record.state, record.metrics.accuracy)) {
                None => Outcome::Missing,
                Some((State::Finished, Some(accuracy))) => Outcome::Accuracy(100.0 * accuracy),
                Some(_) => Outcome::Diverged,
            }
        };
        let outcomes: Vec<Outcome> = seeds.iter().map(outcome).collect();
        let finished: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.accuracy()).collect();
        Self { spread: Spread::of(&finished), outcomes }
    }

    /// Whether every seed has an accuracy.
    pub fn is_complete(&self) -> bool {
        self.spread.is_some_and(|spread| spread.count == self.outcomes.len())
    }

    /// The accuracies at some seeds (by index); `None` if any is missing.
    fn accuracies(&self, seeds: &[usize]) -> Option<Vec<f64>> {
        seeds.iter().map(|&seed| self.outcomes[seed].accuracy()).collect()
    }
}

impl Outcome {
    /// The accuracy in percent, if there is one.
    pub fn accuracy(self) -> Option<f64> {
        match self {
            Self::Accuracy(accuracy) => Some(accuracy),
            Self::Diverged | Self::Missing => None,
        }
    }
}

impl Average {
    /// The mean of the groups' means; for one group, the mean of its cells. `run` are the indices of the seeds that the
    /// method was run with.
    fn of(groups: &[Vec<&Cell>], run: &[usize], expected_seeds: usize) -> Self {
        // Only data sets with all seeds: otherwise the seeds' averages would be over different data sets, and their
        // spread would reflect the difficulty of the data sets.
        let complete: Vec<Vec<Vec<f64>>> = groups
            .iter()
            .map(|cells| cells.iter().filter_map(|cell| cell.accuracies(run)).collect())
            .collect();
        // `None` if a group has no complete data set: the mean of the other groups would be a different quantity.
        let of_seed = |seed: usize| {
            let means =
                complete.iter().map(|group| mean(&group.iter().map(|set| set[seed]).collect::<Vec<_>>()));
            mean(&means.collect::<Option<Vec<f64>>>()?)
        };
        let sets = complete.iter().map(Vec::len).sum();
        let expected_sets = groups.iter().map(Vec::len).sum();
        // An average over fewer data sets would be mistaken for one that is comparable with the others.
        let comparable = sets == expected_sets;
        let of_seeds: Vec<f64> = (0..run.len()).filter(|_| comparable).filter_map(of_seed).collect();
        Self { spread: Spread::of(&of_seeds), sets, expected_sets, expected_seeds }
    }

    /// Whether it covers every data set and every seed of the comparison.
    pub fn is_complete(&self) -> bool {
        let all_seeds = self.spread.is_some_and(|spread| spread.count == self.expected_seeds);
        all_seeds && self.sets == self.expected_sets
    }
}

/// Indices of the seeds for which the method has any accuracy.
fn seeds_run(cells: &[Cell], seeds: usize) -> Vec<usize> {
    (0..seeds).filter(|&seed| cells.iter().any(|cell| cell.outcomes[seed].accuracy().is_some())).collect()
}

/// The number in a method's options by which tables distinguish its versions.
fn size(options: &Value) -> Option<u64> {
    let options = options.get("host").unwrap_or(options);
    ["rank", "bottleneck", "prompts"].iter().find_map(|name| options.get(name)?.as_u64())
}

/// Mean over the cells that have a value.
fn over_cells(records: &[&Record], of: impl Fn(&Record) -> Option<f64>) -> Option<f64> {
    mean(&records.iter().filter_map(|record| of(record)).collect::<Vec<_>>())
}

impl TestSelected {
    fn of(records: &[&Record]) -> Option<Self> {
        let both =
            records.iter().filter_map(|record| record.metrics.test_selected.zip(record.metrics.accuracy));
        let (selected, reported): (Vec<f64>, Vec<f64>) = both.unzip();
        let accuracy = 100.0 * mean(&selected)?;
        Some(Self { accuracy, optimism: accuracy - 100.0 * mean(&reported)?, cells: selected.len() })
    }
}

impl TuningBudget {
    fn of(records: &[&Record]) -> Self {
        let tried = |record: &&Record| {
            // `chosen_from` lists learning rates only; a search may also be over other fields.
            let rates = record.protocol["chosen_from"].as_array().map_or(0, Vec::len);
            // A budget of 1 is a fixed setting; records of earlier versions have none.
            let budget = record.protocol["tuning_budget"].as_u64().filter(|budget| *budget > 1);
            rates.max(budget.map_or(0, |budget| usize::try_from(budget).unwrap_or(usize::MAX)))
        };
        Self {
            fewest: records.iter().map(tried).min().unwrap_or(0),
            most: records.iter().map(tried).max().unwrap_or(0),
        }
    }
}

impl ParameterSummary {
    fn of(records: &[&Record]) -> Self {
        let average = |of: fn(&Record) -> u64| {
            records.iter().map(|record| of(record) as f64).sum::<f64>() / records.len() as f64
        };
        let backbone = records[0].parameters.backbone;
        let trainable = average(|record| record.parameters.trainable);
        Self {
            backbone,
            trainable,
            head: average(|record| record.parameters.head),
            share: 100.0 * trainable / backbone as f64,
        }
    }
}

impl CostSummary {
    fn of(records: &[&Record]) -> Self {
        // A diverged run stopped early, so its time and size are not representative.
        let finished = || records.iter().filter(|record| record.state == State::Finished);
        let seconds: Vec<f64> = finished().map(|record| record.cost.train_seconds).collect();
        let bytes: Vec<f64> = finished().map(|record| record.cost.adapter_bytes as f64).collect();
        Self {
            train_seconds: mean(&seconds),
            peak_memory: records.iter().filter_map(|record| record.cost.peak_memory).max(),
            group_size: records.iter().map(|record| record.cost.group_size).max().unwrap_or(1),
            adapter_bytes: mean(&bytes),
        }
    }
}
