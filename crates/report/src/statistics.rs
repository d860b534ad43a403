//! Statistics of samples and of pairs: pure functions over numbers, which know nothing of records.
//!
//! [`crate::comparison`] is their caller. Each function is checked against scipy or statsmodels
//! (tests/statistics.rs). A quantity that the data cannot give (a spread of one value, a test of
//! pairs that never differ) is `None`, never zero or infinite.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Most pairs for which Wilcoxon's test counts every assignment of signs, as in scipy.
const EXACT_PAIRS: usize = 50;

/// A two-sided test of paired values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedTest {
    /// Student's t, or the smaller of Wilcoxon's two rank sums.
    pub statistic: f64,
    /// Two-sided p-value.
    pub p_value: f64,
}

/// A sample's centre and spread; the spread is none of a single value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Number of values.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Sample standard deviation.
    pub standard_deviation: Option<f64>,
    /// Standard error of the mean.
    pub standard_error: Option<f64>,
    /// Student's 95 % interval of the mean.
    pub interval_95: Option<(f64, f64)>,
}

impl Spread {
    /// Of some values; none of no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            count: values.len(),
            mean: mean(values)?,
            standard_deviation: standard_deviation(values),
            standard_error: standard_error(values),
            interval_95: t_interval(values, 0.95),
        })
    }
}

/// Arithmetic mean; none of no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample standard deviation (divisor n - 1); none of fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// Standard error of the mean: the sample standard deviation over the root of n.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    Some(standard_deviation(values)? / (values.len() as f64).sqrt())
}

/// Student's confidence interval of the mean, `confidence` in (0, 1); none of fewer than two values.
pub fn t_interval(values: &[f64], confidence: f64) -> Option<(f64, f64)> {
    let (centre, error) = (mean(values)?, standard_error(values)?);
    let student = StudentsT::new(0.0, 1.0, (values.len() - 1) as f64).ok()?;
    let reach = student.inverse_cdf(0.5 + confidence / 2.0) * error;
    Some((centre - reach, centre + reach))
}

/// Student's paired t test of the differences `first - second` (equal lengths); none of fewer than
/// two pairs, or where all differences are the same.
pub fn paired_t_test(first: &[f64], second: &[f64]) -> Option<PairedTest> {
    let differences = differences(first, second);
    let error = standard_error(&differences).filter(|&error| error > 0.0)?;
    let statistic = mean(&differences)? / error;
    let student = StudentsT::new(0.0, 1.0, (differences.len() - 1) as f64).ok()?;
    Some(PairedTest { statistic, p_value: 2.0 * student.cdf(-statistic.abs()) })
}

/// Wilcoxon's signed-rank test of `first - second` (equal lengths); pairs that do not differ are
/// dropped, ties share the mean of their ranks. The p-value is exact up to 50 pairs, ties included,
/// and normal with the correction for ties beyond; none where no pair differs.
pub fn wilcoxon_signed_rank(first: &[f64], second: &[f64]) -> Option<PairedTest> {
    let mut differences = differences(first, second);
    differences.retain(|&difference| difference != 0.0);
    differences.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let doubled_ranks = doubled_ranks(&differences);
    let total: u64 = doubled_ranks.iter().sum();
    let positive: u64 =
        differences.iter().zip(&doubled_ranks).filter(|(d, _)| **d > 0.0).map(|(_, rank)| rank).sum();
    let smaller = positive.min(total - positive);
    let p_value = match differences.len() {
        0 => return None,
        1..=EXACT_PAIRS => exact_p_value(&doubled_ranks, smaller),
        _ => normal_p_value(&doubled_ranks, smaller)?,
    };
    Some(PairedTest { statistic: smaller as f64 / 2.0, p_value })
}

/// Holm's step-down correction of a family of p-values, in the order given (Holm 1979).
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut floor: f64 = 0.0;
    for (rank, &index) in order.iter().enumerate() {
        floor = floor.max(p_values[index] * (p_values.len() - rank) as f64).min(1.0);
        corrected[index] = floor;
    }
    corrected
}

fn differences(first: &[f64], second: &[f64]) -> Vec<f64> {
    debug_assert_eq!(first.len(), second.len());
    first.iter().zip(second).map(|(a, b)| a - b).collect()
}

/// Twice the rank of each absolute difference (sorted), so that the half ranks of ties are whole.
fn doubled_ranks(sorted: &[f64]) -> Vec<u64> {
    let mut ranks = Vec::with_capacity(sorted.len());
    for tied in sorted.chunk_by(|a, b| a.abs() == b.abs()) {
        let before = ranks.len();
        let rank = (2 * before + tied.len() + 1) as u64;
        ranks.extend(std::iter::repeat_n(rank, tied.len()));
    }
    ranks
}

/// Share of the sign assignments whose smaller rank sum is at most `smaller`.
fn exact_p_value(doubled_ranks: &[u64], smaller: u64) -> f64 {
    let total: u64 = doubled_ranks.iter().sum();
    // assignments[s] = number of subsets of the ranks with sum s
    let mut assignments = vec![0.0; total as usize + 1];
    assignments[0] = 1.0;
    for &rank in doubled_ranks {
        for sum in (rank as usize..assignments.len()).rev() {
            assignments[sum] += assignments[sum - rank as usize];
        }
    }
    let below: f64 = assignments[..=smaller as usize].iter().sum();
    (2.0 * below / 2f64.powi(doubled_ranks.len() as i32)).min(1.0)
}

/// The variance of a sum of signed ranks is a quarter of the sum of their squares, ties included.
fn normal_p_value(doubled_ranks: &[u64], smaller: u64) -> Option<f64> {
    let total: u64 = doubled_ranks.iter().sum();
    let variance: f64 = doubled_ranks.iter().map(|&rank| (rank as f64 / 2.0).powi(2)).sum::<f64>() / 4.0;
    let z = (smaller as f64 / 2.0 - total as f64 / 4.0) / variance.sqrt();
    Some((2.0 * Normal::new(0.0, 1.0).ok()?.cdf(-z.abs())).min(1.0))
}
