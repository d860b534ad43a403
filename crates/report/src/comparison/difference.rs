//! Compares each method with the baselines and with the best, and summarises each comparison in a sentence.
//!
//! A difference is significant if both its tests are (by set and by training, `estimate`), each corrected by Holm for
//! all differences of its family.

use std::fmt;

use rayon::prelude::*;
use serde::Serialize;

use crate::comparison::estimate::{Differences, Estimate, SIGNIFICANCE, Tests};
use crate::comparison::items::ItemTest;
use crate::comparison::row::Row;
use crate::statistics::{TTest, holm};
use crate::text::{count_of, p_value};

/// Registry names of the methods that all others are compared with.
const BASELINES: [&str; 2] = ["linear", "lora"];

/// One method minus one baseline, over the data sets and seeds that both have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The method's label.
    pub method: String,
    /// The baseline's label.
    pub baseline: String,
    /// The mean difference; `None` without a set and seed in common.
    pub estimate: Option<Estimate>,
    /// The p-values of its tests, corrected by Holm for all differences of the comparison.
    pub corrected: Corrected,
    /// The comparison of the two on individual items; `None` if the runs have no predictions.
    pub items: Option<ItemTest>,
    /// The conclusion.
    pub verdict: Verdict,
}

/// Corrected p-values of the two tests of a difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Corrected {
    /// Sets and trainings vary; `None` on a single set.
    pub by_set: Option<f64>,
    /// Trainings vary; `None` with a single seed.
    pub by_training: Option<f64>,
}

/// The conclusion from a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The method is significantly better.
    Beats,
    /// The method is significantly worse.
    Below,
    /// The two do not differ significantly, which does not show that they are equal.
    NotSignificant,
    /// There are too few data for a test.
    Untested,
    /// The two have no set and seed in common.
    NoPairs,
}

/// Every row against every baseline; two baselines are compared once, the later minus the earlier. `shared`: one model
/// is trained for all sets.
pub(super) fn against_baselines(
    rows: &[Row],
    shared: bool,
    item_test: &(dyn Fn(&str, &str) -> Option<ItemTest> + Sync),
) -> Vec<Difference> {
    let is_baseline = |row: &Row| BASELINES.contains(&row.method.as_str());
    let mut pairs = Vec::new();
    for (place, baseline) in rows.iter().enumerate().filter(|(_, row)| is_baseline(row)) {
        for (other, row) in rows.iter().enumerate() {
            if other > place || (other < place && !is_baseline(row)) {
                pairs.push((row, baseline));
            }
        }
    }
    let difference = |(row, baseline): (&Row, &Row)| Difference {
        method: row.label.clone(),
        baseline: baseline.label.clone(),
        estimate: Estimate::of(&Differences::between(row, baseline, shared)),
        corrected: Corrected::default(),
        items: item_test(&row.label, &baseline.label),
        verdict: Verdict::NoPairs,
    };
    let mut differences: Vec<Difference> = pairs.into_par_iter().map(difference).collect();
    let tests: Vec<Tests> = differences.iter().map(Difference::tests).collect();
    for (difference, corrected) in differences.iter_mut().zip(correct(&tests)) {
        difference.corrected = corrected;
        difference.verdict = verdict(difference.estimate, corrected);
    }
    correct_items(&mut differences);
    differences
}

/// The row with the highest mean, and the rows that do not differ significantly from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Best {
    /// Label of the complete row with the highest mean over sets.
    pub label: String,
    /// Labels of the other complete rows that were tested against it and do not differ significantly.
    pub not_different: Vec<String>,
}

impl Best {
    /// Which row is the best is seen from the data, so the tests are corrected as if every row had been compared with
    /// every other one. `None` for fewer than two complete rows.
    pub(super) fn of(rows: &[Row], shared: bool) -> Option<Self> {
        let mean = |row: &Row| row.mean_of_sets.spread.map_or(f64::NEG_INFINITY, |spread| spread.mean);
        let complete: Vec<&Row> = rows.iter().filter(|row| row.mean_of_sets.is_complete()).collect();
        let best = *complete.iter().max_by(|a, b| mean(a).total_cmp(&mean(b)))?;
        (complete.len() > 1).then_some(())?;
        let mut pairs = Vec::new();
        for (place, first) in complete.iter().enumerate() {
            pairs.extend(complete[place + 1..].iter().map(|second| (*first, *second)));
        }
        let tests: Vec<Tests> =
            pairs.iter().map(|(a, b)| Differences::between(a, b, shared).tests()).collect();
        let with_best = pairs.iter().zip(correct(&tests)).filter_map(|((first, second), corrected)| {
            let other = [first, second].into_iter().find(|row| row.label != best.label)?;
            let has_best = [first, second].iter().any(|row| row.label == best.label);
            (has_best && corrected.is_significant() == Some(false)).then(|| other.label.clone())
        });
        Some(Self { label: best.label.clone(), not_different: with_best.collect() })
    }
}

impl Corrected {
    /// Whether every test that could be made is significant; `None` if none could.
    pub fn is_significant(self) -> Option<bool> {
        let of_tests = [self.by_set, self.by_training].into_iter().flatten().map(|p| p < SIGNIFICANCE);
        of_tests.reduce(|a, b| a && b)
    }
}

/// Holm's correction of each kind of test over the family of all differences that could be tested.
fn correct(tests: &[Tests]) -> Vec<Corrected> {
    let family = |of: fn(&Tests) -> Option<TTest>| {
        let tested: Vec<usize> = (0..tests.len()).filter(|&place| of(&tests[place]).is_some()).collect();
        let p_values: Vec<f64> = tests.iter().filter_map(of).map(|test| test.p_value).collect();
        let mut corrected = vec![None; tests.len()];
        for (place, p) in tested.into_iter().zip(holm(&p_values)) {
            corrected[place] = Some(p);
        }
        corrected
    };
    let by_training = family(|tests| tests.by_training);
    let pairs = family(|tests| tests.by_set).into_iter().zip(by_training);
    pairs.map(|(by_set, by_training)| Corrected { by_set, by_training }).collect()
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

fn verdict(estimate: Option<Estimate>, corrected: Corrected) -> Verdict {
    match (estimate, corrected.is_significant()) {
        (None, _) => Verdict::NoPairs,
        (Some(_), None) => Verdict::Untested,
        (Some(_), Some(false)) => Verdict::NotSignificant,
        (Some(estimate), Some(true)) if estimate.mean > 0.0 => Verdict::Beats,
        (Some(_), Some(true)) => Verdict::Below,
    }
}

impl Difference {
    fn tests(&self) -> Tests {
        self.estimate.map_or(Tests { by_set: None, by_training: None }, |estimate| estimate.tests)
    }

    fn write_numbers(&self, formatter: &mut fmt::Formatter<'_>, estimate: &Estimate) -> fmt::Result {
        write!(formatter, "{:+.1}", estimate.mean)?;
        if let Some(error) = estimate.standard_error {
            write!(formatter, " ± {error:.1}")?;
        }
        write!(formatter, " points")?;
        if let Some((low, high)) = estimate.interval_95 {
            write!(formatter, " [{low:+.1}, {high:+.1}]")?;
        }
        let (sets, trainings) = (count_of(estimate.sets, "set"), count_of(estimate.trainings, "training"));
        let of_all = if estimate.shared { " for all of them" } else { "" };
        write!(formatter, " ({sets}, {trainings}{of_all}; ")?;
        match (self.corrected.by_set, self.corrected.by_training) {
            (None, None) => write!(formatter, "not tested)"),
            (Some(set), None) => write!(formatter, "{} by set)", p_value(set)),
            (None, Some(training)) => write!(formatter, "{} by training)", p_value(training)),
            (Some(set), Some(training)) => {
                write!(formatter, "{} by set, {} by training)", p_value(set), p_value(training))
            }
        }
    }
}

/// The sentence, for example `SAN beats linear: +7.8 ± 2.0 points [+4.1, +12.6] (19 sets, 57 trainings; p = 0.002 by
/// set, p < 0.001 by training)`.
impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, baseline, .. } = self;
        match self.verdict {
            Verdict::Beats => write!(formatter, "{method} beats {baseline}: ")?,
            Verdict::Below => write!(formatter, "{method} is below {baseline}: ")?,
            Verdict::NotSignificant => {
                write!(formatter, "{method} does not differ significantly from {baseline}: ")?;
            }
            Verdict::Untested | Verdict::NoPairs => write!(formatter, "{method} - {baseline}: ")?,
        }
        match &self.estimate {
            Some(estimate) => self.write_numbers(formatter, estimate),
            None => write!(formatter, "no set and seed in common"),
        }
    }
}
