//! Aggregates of a method over sets and seeds that are robust to single sets, with intervals over trainings; the sets
//! are fixed (`statistics::aggregates`).

use rayon::prelude::*;
use serde::Serialize;

use crate::comparison::row::Row;
use crate::statistics::{
    Scores, interquartile_mean, mean, optimality_gap, performance_profile, probability_of_improvement,
};

/// Registry name of the method that others are compared with by the probability of improvement.
const BASELINE: &str = "lora";

/// Number of bootstrap resamples, and their seed.
const RESAMPLES: usize = 2_000;
const BOOTSTRAP_SEED: u64 = 0;

/// A number and its 95 % interval; `None` with a single seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The number.
    pub value: f64,
    /// Stratified bootstrap over trainings.
    pub interval_95: Option<(f64, f64)>,
}

/// The aggregates of a complete method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Aggregates {
    /// The method's label.
    pub label: String,
    /// Mean of the middle half of all scores, in percent.
    pub interquartile_mean: Interval,
    /// How far scores are below the best method's mean on the same set, in percent of it; higher scores count as equal.
    pub optimality_gap: Interval,
    /// Probability in percent that a training scores higher than one of LoRA on the same set; `None` for LoRA itself,
    /// or without it.
    pub improvement: Option<Interval>,
}

/// Of each complete row, in their order.
pub(super) fn of_rows(rows: &[Row], shared: bool) -> Vec<Aggregates> {
    let complete: Vec<(&Row, Scores)> = complete(rows, shared);
    let relative = relative(&complete);
    let baseline = complete.iter().find(|(row, _)| row.method == BASELINE).map(|(_, scores)| scores);
    let of_row = |((row, scores), relative): (&(&Row, Scores), &Scores)| {
        let improvement = baseline.filter(|_| row.method != BASELINE).and_then(|baseline| {
            interval(&[scores, baseline], |both| {
                probability_of_improvement(&both[0], &both[1]).map(|probability| 100.0 * probability)
            })
        });
        Some(Aggregates {
            label: row.label.clone(),
            interquartile_mean: interval(&[scores], |scores| interquartile_mean(&scores[0]))?,
            optimality_gap: interval(&[relative], |scores| optimality_gap(&scores[0], 100.0))?,
            improvement,
        })
    };
    complete.par_iter().zip(&relative).filter_map(of_row).collect()
}

/// Of each complete row, by label: the fraction of its scores above each threshold, where a score is in percent of the
/// best method's mean on the same set.
pub(crate) fn profiles(rows: &[Row], shared: bool, thresholds: &[f64]) -> Vec<(String, Vec<f64>)> {
    let complete = complete(rows, shared);
    let relative = relative(&complete);
    let profile = |((row, _), scores): (&(&Row, Scores), &Scores)| {
        (row.label.clone(), performance_profile(scores, thresholds))
    };
    complete.iter().zip(&relative).map(profile).collect()
}

fn complete(rows: &[Row], shared: bool) -> Vec<(&Row, Scores)> {
    rows.iter().filter_map(|row| Some((row, row.scores(shared)?))).collect()
}

fn interval(methods: &[&Scores], statistic: impl Fn(&[Scores]) -> Option<f64>) -> Option<Interval> {
    let value = statistic(&methods.iter().map(|&scores| scores.clone()).collect::<Vec<_>>())?;
    Some(Interval { value, interval_95: Scores::interval_95(methods, RESAMPLES, BOOTSTRAP_SEED, statistic) })
}

/// Scores in percent of the highest mean that a method has on their set, so that sets of different difficulty can be
/// compared; a set on which every method scores 0 counts as reached.
fn relative(complete: &[(&Row, Scores)]) -> Vec<Scores> {
    let best = |set: usize| {
        let means = complete.iter().filter_map(|(_, scores)| mean(&scores.sets[set]));
        means.fold(0.0, f64::max)
    };
    let of_set = |(set, scores): (usize, &Vec<f64>)| {
        let best = best(set);
        scores.iter().map(|score| if best > 0.0 { 100.0 * score / best } else { 100.0 }).collect()
    };
    let scaled = |scores: &Scores| Scores {
        sets: scores.sets.iter().enumerate().map(of_set).collect(),
        shared: scores.shared,
    };
    complete.iter().map(|(_, scores)| scaled(scores)).collect()
}
