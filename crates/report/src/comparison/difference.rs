//! Compares each method with the baselines, paired by data set and seed, and summarises each comparison in a sentence.
//!
//! The difference removes the difficulty that all pairs of a data set share; the seeds of one data set are still treated
//! as independent, as is common in the literature.

use std::fmt;

use rayon::prelude::*;
use serde::Serialize;

use crate::comparison::items::ItemTest;
use crate::comparison::row::{Cell, Row};
use crate::statistics::{Discordant, PairedTest, Spread, holm, paired_t_test, wilcoxon_signed_rank};
use crate::text::{count_of, thousands};

/// Registry names of the methods that all others are compared with.
const BASELINES: [&str; 2] = ["linear", "lora"];

/// Wilcoxon's test cannot reach p < 0.05 with fewer pairs, whatever the differences are, so a missing significant
/// improvement is then not evidence against a method.
const MIN_PAIRS: usize = 6;

/// Corrected p-values below this level are significant.
pub const SIGNIFICANCE: f64 = 0.05;

/// One method minus one baseline, over the data sets and seeds that both have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The method's label.
    pub method: String,
    /// The baseline's label.
    pub baseline: String,
    /// Of the paired differences, in percentage points; `None` without pairs.
    pub spread: Option<Spread>,
    /// Student's paired test.
    pub t_test: Option<PairedTest>,
    /// Wilcoxon's signed-rank test.
    pub wilcoxon: Option<PairedTest>,
    /// The paired t test's p-value, corrected by Holm for all differences of the comparison.
    pub corrected_p: Option<f64>,
    /// The comparison of the two on individual items; `None` if the runs have no predictions.
    pub items: Option<ItemTest>,
    /// The conclusion.
    pub verdict: Verdict,
}

/// The conclusion from a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The method is significantly better.
    Beats,
    /// The method is not better, or not significantly.
    DoesNotBeat,
    /// The method is not better, or not significantly, but there are too few pairs for a test to reach significance.
    NotShown,
    /// The method is better, but there are too few data for a test.
    Untested,
    /// The two have no set and seed in common.
    NoPairs,
}

/// Every row against every baseline; two baselines are compared once, the later minus the earlier.
pub(super) fn against_baselines(
    rows: &[Row],
    item_test: &(dyn Fn(&str, &str) -> Option<ItemTest> + Sync),
) -> Vec<Difference> {
    let is_baseline = |row: &Row| BASELINES.contains(&row.method.as_str());
    let mut differences = Vec::new();
    for (place, baseline) in rows.iter().enumerate().filter(|(_, row)| is_baseline(row)) {
        for (other, row) in rows.iter().enumerate() {
            if other > place || (other < place && !is_baseline(row)) {
                differences.push(Difference::between(row, baseline));
            }
        }
    }
    differences
        .par_iter_mut()
        .for_each(|difference| difference.items = item_test(&difference.method, &difference.baseline));
    correct(&mut differences);
    correct_items(&mut differences);
    differences
}

/// Every other row against the complete row with the highest mean over sets.
pub(super) fn against_best(rows: &[Row]) -> Vec<Difference> {
    let mean = |row: &Row| row.mean_of_sets.spread.map(|spread| spread.mean).unwrap_or(f64::NEG_INFINITY);
    let complete = rows.iter().filter(|row| row.mean_of_sets.is_complete());
    let Some(best) = complete.max_by(|a, b| mean(a).total_cmp(&mean(b))) else { return Vec::new() };
    let others = rows.iter().filter(|row| row.label != best.label);
    let mut differences: Vec<Difference> = others.map(|row| Difference::between(row, best)).collect();
    correct(&mut differences);
    differences
}

/// Holm's correction over the family of McNemar's tests.
fn correct_items(differences: &mut [Difference]) {
    let mut tests: Vec<&mut ItemTest> = differences
        .iter_mut()
        .filter_map(|difference| difference.items.as_mut().filter(|test| test.mcnemar.is_some()))
        .collect();
    let p_values: Vec<f64> = tests.iter().filter_map(|test| test.mcnemar.map(|test| test.p_value)).collect();
    for (test, corrected) in tests.iter_mut().zip(holm(&p_values)) {
        test.corrected_p = Some(corrected);
    }
}

/// Holm's correction over the family of all the differences that could be tested.
fn correct(differences: &mut [Difference]) {
    let tested: Vec<usize> = (0..differences.len()).filter(|&i| differences[i].t_test.is_some()).collect();
    let p_values: Vec<f64> =
        tested.iter().filter_map(|&i| differences[i].t_test.map(|test| test.p_value)).collect();
    for (&index, corrected) in tested.iter().zip(holm(&p_values)) {
        differences[index].corrected_p = Some(corrected);
    }
    for difference in differences {
        difference.verdict = verdict(difference.spread, difference.corrected_p);
    }
}

fn verdict(spread: Option<Spread>, corrected_p: Option<f64>) -> Verdict {
    match (spread, corrected_p) {
        (None, _) => Verdict::NoPairs,
        (Some(spread), Some(p)) if spread.mean > 0.0 && p < SIGNIFICANCE => Verdict::Beats,
        (Some(spread), None) if spread.mean > 0.0 => Verdict::Untested,
        (Some(spread), _) if spread.count < MIN_PAIRS => Verdict::NotShown,
        (Some(_), _) => Verdict::DoesNotBeat,
    }
}

impl Difference {
    fn between(row: &Row, baseline: &Row) -> Self {
        let (ours, theirs): (Vec<f64>, Vec<f64>) =
            row.cells.iter().zip(&baseline.cells).flat_map(|(a, b)| pairs(a, b)).unzip();
        let differences: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
        Self {
            method: row.label.clone(),
            baseline: baseline.label.clone(),
            spread: Spread::of(&differences),
            t_test: paired_t_test(&ours, &theirs),
            wilcoxon: wilcoxon_signed_rank(&ours, &theirs),
            corrected_p: None,
            items: None,
            verdict: Verdict::NoPairs,
        }
    }

    /// Whether the two differ significantly by the paired t test; `None` if there were too few data for a test.
    pub fn is_significant(&self) -> Option<bool> {
        self.corrected_p.map(|p| p < SIGNIFICANCE)
    }

    /// The result on individual items, as a clause; `None` without predictions.
    pub fn items_in_words(&self) -> Option<String> {
        let items = self.items?;
        let Discordant { wins, losses } = items.discordant;
        let p = match items.corrected_p {
            None => "not tested".to_owned(),
            Some(p) if p < 0.001 => "McNemar p < 0.001".to_owned(),
            Some(p) => format!("McNemar p = {p:.3}"),
        };
        let interval = items.bootstrap.map_or(String::new(), |bootstrap| {
            let (low, high) = bootstrap.interval_95;
            format!(", {:+.1} points [{low:+.1}, {high:+.1}]", bootstrap.mean)
        });
        Some(format!(
            "{} - {} over {} items of seed {}: {wins} correct only with the first, {losses} only with the second \
             ({p}){interval}",
            self.method,
            self.baseline,
            thousands(items.items as f64),
            items.seed,
        ))
    }

    /// The mean difference, its standard error, the number of pairs and the corrected p-value.
    fn write_numbers(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(spread) = self.spread else { return write!(formatter, "no set and seed in common") };
        write!(formatter, "{:+.1}", spread.mean)?;
        if let Some(error) = spread.standard_error {
            write!(formatter, " ± {error:.1}")?;
        }
        write!(formatter, " ({}, ", count_of(spread.count, "pair"))?;
        match self.corrected_p {
            None => write!(formatter, "not tested)"),
            Some(p) if p < 0.001 => write!(formatter, "p < 0.001)"),
            Some(p) => write!(formatter, "p = {p:.3})"),
        }
    }
}

fn pairs(first: &Cell, second: &Cell) -> Vec<(f64, f64)> {
    first.outcomes.iter().zip(&second.outcomes).filter_map(|(a, b)| a.accuracy().zip(b.accuracy())).collect()
}

/// The sentence, for example `SAN - linear: +12.3 ± 0.8 (57 pairs, p < 0.001)` or
/// `SAN does not beat LoRA: -0.4 ± 0.5 (57 pairs, p = 0.430)`.
impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict {
            Verdict::DoesNotBeat => write!(formatter, "{} does not beat {}: ", self.method, self.baseline)?,
            Verdict::NotShown => {
                write!(formatter, "{} is not shown to beat {}: ", self.method, self.baseline)?;
            }
            Verdict::Beats | Verdict::Untested | Verdict::NoPairs => {
                write!(formatter, "{} - {}: ", self.method, self.baseline)?;
            }
        }
        self.write_numbers(formatter)
    }
}
