//! How a [`Comparison`] looks as a [`Table`]: what stands in which column, rounded how, marked how.

use std::collections::BTreeSet;

use crate::comparison::Comparison;
use crate::comparison::difference::Difference;
use crate::comparison::ranking::Ranking as MethodRanking;
use crate::comparison::row::{Average, Cell, Outcome, Row, TuningBudget};
use crate::statistics::Spread;
use crate::table::published::COMPARABLE_PROFILE;
use crate::table::{Column, Emphasis, Table, TableCell, TableRow};
use crate::text::thousands;

/// Marks an average that does not cover every seed.
const INCOMPLETE: &str = "*";

/// Marks a method that the paired test does not tell from the best one.
pub(crate) const NOT_DIFFERENT: char = '†';

/// A cell, the number it is ranked by (none where ranking would mislead), and the number it is sorted by.
struct Entry {
    text: String,
    rank_by: Option<f64>,
    value: Option<f64>,
}

/// A column that only some records can fill: its title, its value, its digits.
type OptionalColumn = (&'static str, fn(&Row) -> Option<f64>, usize);

impl Entry {
    /// A text without rank.
    fn plain(text: String, value: Option<f64>) -> Self {
        Self { text, rank_by: None, value }
    }
}

impl Comparison {
    /// The comparison as a table: methods in rows; the sets, the group means, both averages, sizes
    /// and costs in columns.
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
        Table {
            name: self.name(),
            caption: self.caption(),
            corner: "method".into(),
            columns: self.columns(),
            rows: rows.collect(),
            notes: self.notes(),
        }
    }

    fn has_groups(&self) -> bool {
        self.groups.len() > 1
    }

    /// Whether there is anything to average: a suite of one set has its mean in the set's own column.
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
            entries.extend(group.datasets.iter().map(|&index| cell_entry(&row.cells[index])));
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

    /// Columns that are shown where any method has them: header, value and decimals.
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
        let mut against = self.against_best.iter().filter(|difference| difference.method == row.label);
        against.any(|difference| difference.is_significant() == Some(false))
    }

    /// Names of metrics, each with the sets that are measured by it, in the order of the columns. Records of former
    /// versions do not name theirs.
    fn metrics(&self) -> Vec<(String, Vec<String>)> {
        let mut metrics: Vec<(String, Vec<String>)> = Vec::new();
        for set in &self.datasets {
            let mut of_set = self.records.iter().filter(|stored| stored.record.dataset.name == set.name);
            let Some(metric) =
                of_set.find_map(|stored| Some(&stored.record.metrics.metric).filter(|name| !name.is_empty()))
            else {
                continue;
            };
            match metrics.iter_mut().find(|(name, _)| name == metric) {
                Some((_, sets)) => sets.push(set.name.clone()),
                None => metrics.push((metric.clone(), vec![set.name.clone()])),
            }
        }
        metrics
    }

    fn caption(&self) -> String {
        let origin = &self.origin;
        // Several metrics have a note of their own.
        let metric = Some(self.metrics()).filter(|metrics| metrics.len() == 1).unwrap_or_default();
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        let plural = if seeds.len() == 1 { "seed" } else { "seeds" };
        let epochs =
            origin.protocol.get("epochs").map_or(String::new(), |epochs| format!(", {epochs} epochs"));
        let commits: Vec<&str> =
            origin.commits.iter().map(|commit| commit.get(..12).unwrap_or(commit)).collect();
        let dirty = if origin.dirty { " with uncommitted changes" } else { "" };
        format!(
            "{}, profile {}, backbone {}{epochs}: {} in %, mean ± sd over {} {plural} ({}). \
             Code {}{dirty}; device {}.",
            self.suite.to_uppercase(),
            self.profile,
            self.backbone,
            metric.first().map_or("score", |(metric, _)| metric),
            seeds.len(),
            seeds.join(", "),
            commits.join(", "),
            origin.devices.join(", "),
        )
    }

    fn notes(&self) -> Vec<String> {
        let origin = &self.origin;
        let metrics = self.metrics();
        let several = metrics.iter().filter(|_| metrics.len() > 1);
        let several: Vec<String> =
            several.map(|(metric, sets)| format!("{metric} ({})", sets.join(", "))).collect();
        let mut notes: Vec<String> = Vec::new();
        if !several.is_empty() {
            notes.push(format!("Scores: {}.", several.join("; ")));
        }
        let differences: Vec<String> =
            self.differences.iter().map(|difference| format!("{difference}.")).collect();
        if !differences.is_empty() {
            notes.extend(differences);
            notes.push(
                "Differences: mean over paired sets and seeds ± its standard error, in points; two-sided paired \
                 t test, p corrected by Holm; `does not beat` where the mean is not above 0 or p is not below 0.05, \
                 `is not shown to beat` where that is over fewer than 6 pairs."
                    .into(),
            );
        }
        let items: Vec<String> = self.differences.iter().filter_map(Difference::items_in_words).collect();
        if !items.is_empty() {
            notes.extend(items.into_iter().map(|sentence| format!("{sentence}.")));
            notes.push(
                "Over items: McNemar's test (exact up to 1,000 items that one of the two has right alone), p \
                 corrected by Holm; points: mean over sets with the 95 % interval of a paired bootstrap within sets."
                    .into(),
            );
        }
        if let Some(best) = self.against_best.first() {
            notes.push(format!(
                "{NOT_DIFFERENT}: not significantly different from the best, {} (paired t test over sets and \
                 seeds, corrected by Holm, 0.05).",
                best.baseline
            ));
        }
        notes.extend(self.ranking.as_ref().and_then(ranking_note));
        notes.extend(self.prior_in_words());
        notes.extend(self.yes_or_no_in_words());
        notes.extend(self.pending_in_words());
        notes.push(
            "Averages are formed for each seed first; the intervals are Student's, over seeds. Parameters are \
             without head; head, training time and adapter are means over runs, peak memory is the largest."
                .into(),
        );
        if self.rows.iter().any(|row| row.test_selected.is_some()) {
            notes.push(
                "test-selected: the best epoch by accuracy on the test split, the peers' convention; optimism: \
                 what it exceeds the accuracy of the last epoch by. Nothing here is chosen by it."
                    .into(),
            );
        }
        notes.push(self.budget_note());
        if self.rows.iter().any(|row| !row.is_complete()) {
            notes.push(format!(
                "(k/n): k of n seeds finished. {INCOMPLETE}: over fewer seeds than the others, so not ranked. An average \
                 over fewer sets than the others is not shown: it says how many it would be over."
            ));
        }
        notes.extend(self.rows.iter().flat_map(|row| self.gaps(row)));
        if !origin.protocol.is_empty() {
            let fields: Vec<String> =
                origin.protocol.iter().map(|(name, value)| format!("{name} {value}")).collect();
            notes.push(format!("Protocol: {}.", fields.join(", ")));
        }
        if !origin.varying.is_empty() {
            notes.push(format!("Differs between runs: {}.", origin.varying.join(", ")));
        }
        if self.profile != COMPARABLE_PROFILE {
            notes.push(format!(
                "Published rows are not listed: results of the profile {} cannot be compared with them.",
                self.profile
            ));
        }
        let missing = self.progress.as_ref().and_then(|progress| progress.in_words());
        notes.extend(missing.iter().chain(&origin.warnings).map(|warning| format!("Warning: {warning}")));
        notes
    }

    /// Whether all methods were tuned alike.
    fn budget_note(&self) -> String {
        let budgets: BTreeSet<(usize, usize)> =
            self.rows.iter().map(|row| (row.tuning.fewest, row.tuning.most)).collect();
        match (budgets.len(), budgets.first()) {
            (1, Some((0, 0))) => {
                "Settings were fixed beforehand for all methods alike: none was tuned on val.".into()
            }
            (1, Some((fewest, most))) if fewest == most => {
                format!(
                    "Tuning: {fewest} settings tried on val for each set, the same number for every method."
                )
            }
            _ => "Warning: the methods were not tuned over the same number of settings.".into(),
        }
    }

    /// Which cells of a method have no accuracy, by reason.
    fn gaps(&self, row: &Row) -> Vec<String> {
        [(Outcome::Diverged, "diverged"), (Outcome::Missing, "missing")]
            .into_iter()
            .filter_map(|(outcome, word)| {
                let places: Vec<String> = row
                    .cells
                    .iter()
                    .zip(&self.datasets)
                    .filter_map(|(cell, dataset)| {
                        let seeds =
                            self.seeds.iter().zip(&cell.outcomes).filter(|(_, found)| **found == outcome);
                        let seeds: Vec<String> = seeds.map(|(seed, _)| seed.to_string()).collect();
                        (!seeds.is_empty()).then(|| {
                            format!(
                                "{} (seed{} {})",
                                dataset.name,
                                if seeds.len() > 1 { "s" } else { "" },
                                seeds.join(", ")
                            )
                        })
                    })
                    .collect();
                (!places.is_empty()).then(|| format!("{} {word}: {}.", row.label, places.join("; ")))
            })
            .collect()
    }
}

impl Row {
    fn is_complete(&self) -> bool {
        self.cells.iter().all(Cell::is_complete)
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

fn average_entry(average: &Average) -> Entry {
    match average.spread {
        None if average.sets == 0 => Entry::plain("missing".into(), None),
        None => Entry::plain(format!("{} of {} sets", average.sets, average.expected_sets), None),
        Some(spread) if average.is_complete() => {
            Entry { text: plus_minus(&spread), rank_by: Some(spread.mean), value: Some(spread.mean) }
        }
        Some(spread) => Entry::plain(format!("{}{INCOMPLETE}", plus_minus(&spread)), Some(spread.mean)),
    }
}

fn interval_entry(average: &Average) -> Entry {
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

fn ranking_note(ranking: &MethodRanking) -> Option<String> {
    let friedman = ranking.friedman?;
    let p =
        if friedman.p_value < 0.001 { "p < 0.001".into() } else { format!("p = {:.3}", friedman.p_value) };
    let critical = ranking.critical_difference?;
    Some(format!(
        "Average ranks over {} sets (1 is best): Friedman's test {p}; ranks further apart than {critical:.2} \
         differ (Nemenyi, 0.05).",
        ranking.sets
    ))
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

/// The two best numbers of a column as shown, in tenths: equal text has equal rank.
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

/// Rounded as the text is: a tie such as 76.25 must not be shown as 76.2 and ranked as 76.3.
fn tenths(value: f64) -> i64 {
    let shown: f64 = format!("{value:.1}").parse().unwrap_or(value);
    (10.0 * shown).round() as i64
}
