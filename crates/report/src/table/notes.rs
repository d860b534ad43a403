//! The notes below the table of a comparison: tests, protocol, missing runs and warnings.

use std::collections::BTreeSet;

use crate::comparison::Comparison;
use crate::comparison::left_out::LeftOut;
use crate::comparison::ranking::Ranking;
use crate::comparison::row::{Cell, Outcome, Row};
use crate::table::comparison::{INCOMPLETE, NOT_DIFFERENT};
use crate::table::published::COMPARABLE_PROFILE;
use crate::table::recipes;
use crate::text::p_value;

impl Comparison {
    pub(super) fn notes(&self) -> Vec<String> {
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
                "Differences: mean over sets of the means over paired seeds ± standard error, 95 % interval; p of two \
                 tests, by set (other sets and seeds) and by training (other seeds), each corrected by Holm; \
                 significant if both are below 0.05. A difference that is not significant does not show equality; \
                 the table of differences has the numbers of sets and seeds that would be needed."
                    .into(),
            );
        }
        if let Some(best) = self.best.as_ref().filter(|best| !best.not_different.is_empty()) {
            notes.push(format!(
                "{NOT_DIFFERENT}: not significantly different from the best, {} (both tests, corrected by Holm for all \
                 pairs of methods, since the best is chosen by looking at the results).",
                best.label
            ));
        }
        notes.extend(self.ranking.as_ref().and_then(ranking_note));
        notes.extend(self.prior_in_words());
        notes.extend(self.yes_or_no_in_words());
        notes.extend(self.pending_in_words());
        notes.push(
            "Averages are formed for each seed first; the intervals are Student's, over seeds. Parameters exclude the \
             head; head, training time and adapter are means over runs, peak memory is the maximum."
                .into(),
        );
        if let Some(most) = self.rows.iter().map(|row| row.cost.group_size).max().filter(|most| *most > 1) {
            notes.push(format!(
                "Runs were trained in groups of up to {most}: training time is a run's share of that of its group, peak \
                 memory is that of a group."
            ));
        }
        if self.rows.iter().any(|row| row.test_selected.is_some()) {
            notes.push(
                "test-selected: the accuracy of the best epoch on the test split, a common convention; optimism: its \
                 excess over the accuracy of the last epoch. It is not used for any selection."
                    .into(),
            );
        }
        notes.push(self.budget_note());
        if self.rows.iter().any(|row| !row.is_complete()) {
            notes.push(format!(
                "(k/n): k of n seeds finished. {INCOMPLETE}: over fewer seeds than the others, so not ranked. An average \
                 over fewer sets than the others is not shown; the cell gives the number of sets instead."
            ));
        }
        notes.extend(self.rows.iter().flat_map(|row| self.gaps(row)));
        notes.extend(self.left_out.iter().map(LeftOut::in_words));
        if !origin.protocol.is_empty() {
            let fields: Vec<String> =
                origin.protocol.iter().map(|(name, value)| format!("{name} {value}")).collect();
            notes.push(format!("Protocol: {}.", fields.join(", ")));
        }
        notes.extend(recipes::notes(self.records()));
        if !origin.varying.is_empty() {
            notes.push(format!("Differs between runs: {}.", origin.varying.join(", ")));
        }
        if self.profile != COMPARABLE_PROFILE {
            notes.push(format!(
                "Published rows are not listed: they are not comparable with results of the profile {}.",
                self.profile
            ));
        }
        let missing = self.progress.as_ref().and_then(|progress| progress.in_words());
        notes.extend(missing.iter().chain(&origin.warnings).map(|warning| format!("Warning: {warning}")));
        notes
    }

    /// Whether all methods were tuned over the same number of settings.
    fn budget_note(&self) -> String {
        let budgets: BTreeSet<(usize, usize)> =
            self.rows.iter().map(|row| (row.tuning.fewest, row.tuning.most)).collect();
        match (budgets.len(), budgets.first()) {
            (1, Some((0, 0))) => "All methods have fixed settings; none was tuned on val.".into(),
            (1, Some((fewest, most))) if fewest == most => {
                format!(
                    "Tuning: {fewest} settings tried on val for each set, the same number for every method."
                )
            }
            _ => "Warning: the methods were not tuned over the same number of settings.".into(),
        }
    }

    /// Lists the cells of a method without an accuracy, by reason.
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
                            let plural = if seeds.len() > 1 { "s" } else { "" };
                            format!("{} (seed{plural} {})", dataset.name, seeds.join(", "))
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

fn ranking_note(ranking: &Ranking) -> Option<String> {
    let friedman = ranking.friedman?;
    let p = p_value(friedman.p_value);
    let critical = ranking.critical_difference?;
    Some(format!(
        "Average ranks over {} sets (1 is best): Friedman's test {p}; ranks that differ by more than {critical:.2} \
         differ significantly (Nemenyi's test, 0.05).",
        ranking.sets
    ))
}
