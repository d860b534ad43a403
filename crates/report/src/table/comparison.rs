//! Lays out a [`Comparison`] as a [`Table`]: its columns, the rounding and the emphasis of its cells.

use std::collections::BTreeSet;

use crate::comparison::Comparison;
use crate::comparison::left_out::LeftOut;
use crate::comparison::row::{Average, Cell, Outcome, Row, TuningBudget};
use crate::statistics::Spread;
use crate::table::{Column, Emphasis, Table, TableCell, TableRow};
use crate::text::thousands;

/// Marks an average that does not cover every seed.
pub(super) const INCOMPLETE: &str = "*";

/// Marks a method that does not differ significantly from the best one by the paired test.
pub(crate) const NOT_DIFFERENT: char = '†';

/// In place of the score of a run that was left out because of its memory.
const DOES_NOT_FIT: &str = "does not fit";

/// A cell, the number by which it is ranked (`None` if ranking would be misleading), and the number by which it is sorted.
pub(super) struct Entry {
    text: String,
    rank_by: Option<f64>,
    value: Option<f64>,
}

/// A column for which only some records have values: its header, value and decimals.
type OptionalColumn = (&'static str, fn(&Row) -> Option<f64>, usize);

impl Entry {
    /// As a cell outside a ranking.
    pub(super) fn into_cell(self) -> TableCell {
        TableCell { text: self.text, emphasis: Emphasis::None, value: self.value }
    }

    /// An unranked text.
    fn plain(text: String, value: Option<f64>) -> Self {
        Self { text, rank_by: None, value }
    }
}

impl Comparison {
    /// The comparison as a table: methods in rows; data sets, group means, both averages, sizes and costs in columns.
    pub fn table(&self) -> Table {
        let entries: Vec<Vec<Entry>> = self.rows.iter().map(|row| self.entries(row)).collect();
        let ranks: Vec<Ranking> = (0..self.columns().len())
            .map(|column| Ranking::of(entries.iter().map(|row| row[column].rank_by)))
            .collect();
        let rows = self.rows.iter().zip(entries).map(|(row, entries)| TableRow {
            label: row.label.clone(),
            cells: entries
                .into_iter()
                .zip(&ranks)
                .map(|(entry, ranking)| TableCell {
                    text: entry.text,
                    emphasis: ranking.emphasis(entry.rank_by),
                    value: entry.value,
                })
                .collect(),
        });
        let left_out = self.left_out.iter().filter(|one| self.rows.iter().all(|row| row.label != one.label));
        let rows = rows.chain(left_out.map(|one| self.left_out_row(one)));
        Table {
            name: self.name(),
            caption: self.caption(),
            corner: "method".into(),
            columns: self.columns(),
            rows: rows.collect(),
            notes: self.notes(),
        }
    }

    /// The row of a method without any record.
    fn left_out_row(&self, left_out: &LeftOut) -> TableRow {
        let is_out = |header: &str| {
            self.datasets.iter().any(|set| set.name == header) && left_out.covers(header, &self.suite)
        };
        let cell =
            |column: &Column| if is_out(&column.header) { DOES_NOT_FIT } else { "-" }.to_owned().into();
        TableRow { label: left_out.label.clone(), cells: self.columns().iter().map(cell).collect() }
    }

    /// The cell of a data set; one without a record says why.
    fn set_entry(&self, row: &Row, index: usize) -> Entry {
        let (cell, dataset) = (&row.cells[index], &self.datasets[index]);
        let is_out = |one: &LeftOut| one.label == row.label && one.covers(&dataset.name, &self.suite);
        let is_missing = cell.outcomes.iter().all(|outcome| *outcome == Outcome::Missing);
        if is_missing && self.left_out.iter().any(is_out) {
            return Entry::plain(DOES_NOT_FIT.into(), None);
        }
        cell_entry(cell)
    }

    fn has_groups(&self) -> bool {
        self.groups.len() > 1
    }

    /// Whether there is anything to average: the mean of a suite with one data set is the column of that data set.
    fn has_sets(&self) -> bool {
        self.datasets.len() > 1
    }

    fn columns(&self) -> Vec<Column> {
        let column = |group: &str, header: String| Column { group: group.into(), header };
        let mut columns = Vec::new();
        for group in &self.groups {
            let sets = group.datasets.iter().map(|&index| &self.datasets[index].name);
            columns.extend(sets.map(|name| column(&group.name, name.clone())));
            if self.has_groups() {
                columns.push(column(&group.name, format!("{} mean", group.name)));
            }
        }
        if self.has_sets() {
            columns.push(column("averages", format!("mean of {} sets", self.datasets.len())));
            columns.push(column("averages", "95 % interval (sets)".into()));
        }
        if self.has_groups() {
            columns.push(column("averages", format!("mean of {} group means", self.groups.len())));
            columns.push(column("averages", "95 % interval (groups)".into()));
        }
        if self.ranking.is_some() {
            columns.push(column("averages", "average rank".into()));
        }
        let optional = self.optional().map(|(header, ..)| column("averages", header.into()));
        columns.extend(optional);
        columns.push(column("cost", "settings tried on val".into()));
        let cost = [
            "trained parameters",
            "% of backbone",
            "head parameters",
            "training s",
            "peak MiB",
            "adapter KiB",
        ];
        columns.extend(cost.map(|header| column("cost", header.into())));
        columns
    }

    /// One entry for each of [`Comparison::columns`], in the same order.
    fn entries(&self, row: &Row) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (group, group_mean) in self.groups.iter().zip(&row.group_means) {
            entries.extend(group.datasets.iter().map(|&index| self.set_entry(row, index)));
            if self.has_groups() {
                entries.push(average_entry(group_mean));
            }
        }
        if self.has_sets() {
            let mut mean_of_sets = average_entry(&row.mean_of_sets);
            if row.mean_of_sets.spread.is_some() && self.is_not_different_from_best(row) {
                mean_of_sets.text.push(NOT_DIFFERENT);
            }
            entries.extend([mean_of_sets, interval_entry(&row.mean_of_sets)]);
        }
        if self.has_groups() {
            entries.extend([average_entry(&row.mean_of_groups), interval_entry(&row.mean_of_groups)]);
        }
        if let Some(ranking) = &self.ranking {
            let rank = ranking.rank(&row.label);
            // The lowest rank is the best.
            let text = or_dash(rank.map(|rank| format!("{rank:.1}")));
            entries.push(Entry { text, rank_by: rank.map(|rank| -rank), value: rank });
        }
        entries.extend(self.optional().map(|(_, of, decimals)| {
            let value = of(row);
            Entry::plain(or_dash(value.map(|value| format!("{value:.decimals$}"))), value)
        }));
        entries.push(budget_entry(row.tuning));
        let (parameters, cost) = (&row.parameters, &row.cost);
        let costs = [
            (thousands(parameters.trainable), Some(parameters.trainable)),
            (format!("{:.3}", parameters.share), Some(parameters.share)),
            (thousands(parameters.head), Some(parameters.head)),
            (or_dash(cost.train_seconds.map(|seconds| format!("{seconds:.1}"))), cost.train_seconds),
            {
                let mebibytes = cost.peak_memory.map(|bytes| bytes as f64 / 1048576.0);
                (or_dash(mebibytes.map(thousands)), mebibytes)
            },
            (or_dash(cost.adapter_bytes.map(|bytes| thousands(bytes / 1024.0))), cost.adapter_bytes),
        ];
        entries.extend(costs.map(|(text, value)| Entry::plain(text, value)));
        entries
    }

    /// Columns that are shown if any method has a value.
    fn optional(&self) -> impl Iterator<Item = OptionalColumn> {
        let columns: [OptionalColumn; 4] = [
            ("test-selected", |row| row.test_selected.map(|selected| selected.accuracy), 1),
            ("optimism", |row| row.test_selected.map(|selected| selected.optimism), 2),
            ("no answer %", |row| row.no_answer, 1),
            ("forgetting", |row| row.forgetting, 3),
        ];
        columns.into_iter().filter(|(_, of, _)| self.rows.iter().any(|row| of(row).is_some()))
    }

    fn is_not_different_from_best(&self, row: &Row) -> bool {
        self.best.as_ref().is_some_and(|best| best.not_different.contains(&row.label))
    }
}

fn cell_entry(cell: &Cell) -> Entry {
    let Some(spread) = cell.spread else {
        let diverged = cell.outcomes.contains(&Outcome::Diverged);
        return Entry::plain(if diverged { "diverged" } else { "missing" }.into(), None);
    };
    let mean = Some(spread.mean);
    if cell.is_complete() {
        return Entry { text: plus_minus(&spread), rank_by: mean, value: mean };
    }
    Entry::plain(format!("{} ({}/{})", plus_minus(&spread), spread.count, cell.outcomes.len()), mean)
}

pub(super) fn average_entry(average: &Average) -> Entry {
    match average.spread {
        None if average.sets == 0 => Entry::plain("missing".into(), None),
        None => Entry::plain(format!("{} of {} sets", average.sets, average.expected_sets), None),
        Some(spread) if average.is_complete() => {
            Entry { text: plus_minus(&spread), rank_by: Some(spread.mean), value: Some(spread.mean) }
        }
        Some(spread) => Entry::plain(format!("{}{INCOMPLETE}", plus_minus(&spread)), Some(spread.mean)),
    }
}

pub(super) fn interval_entry(average: &Average) -> Entry {
    let interval = average.spread.and_then(|spread| spread.interval_95);
    let text = or_dash(interval.map(|(low, high)| format!("{low:.1} to {high:.1}")));
    Entry::plain(text, interval.map(|(low, _)| low))
}

fn budget_entry(budget: TuningBudget) -> Entry {
    let text = match (budget.fewest, budget.most) {
        (0, 0) => "fixed".into(),
        (fewest, most) if fewest == most => most.to_string(),
        (fewest, most) => format!("{fewest} to {most}"),
    };
    Entry::plain(text, Some(budget.most as f64))
}

fn plus_minus(spread: &Spread) -> String {
    match spread.standard_deviation {
        Some(deviation) => format!("{:.1} ± {deviation:.1}", spread.mean),
        None => format!("{:.1}", spread.mean),
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

/// The two best numbers of a column as displayed, in tenths: equal text has equal rank.
struct Ranking {
    best: Option<i64>,
    second: Option<i64>,
}

impl Ranking {
    /// A single method is not ranked.
    fn of(values: impl Iterator<Item = Option<f64>>) -> Self {
        let values: Vec<i64> = values.flatten().map(tenths).collect();
        if values.len() < 2 {
            return Self { best: None, second: None };
        }
        let mut descending = BTreeSet::from_iter(values).into_iter().rev();
        Self { best: descending.next(), second: descending.next() }
    }

    fn emphasis(&self, value: Option<f64>) -> Emphasis {
        match value.map(tenths) {
            Some(value) if self.best == Some(value) => Emphasis::Best,
            Some(value) if self.second == Some(value) => Emphasis::Second,
            _ => Emphasis::None,
        }
    }
}

/// Rounded like the text: a tie such as 76.25 must not be displayed as 76.2 and ranked as 76.3.
fn tenths(value: f64) -> i64 {
    let shown: f64 = format!("{value:.1}").parse().unwrap_or(value);
    (10.0 * shown).round() as i64
}
