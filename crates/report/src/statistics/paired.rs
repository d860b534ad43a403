//! Wilcoxon's signed-rank test of paired values: the results of two methods on the same sets.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

/// Maximum number of pairs for which Wilcoxon's test is exact, as in scipy.
const EXACT_PAIRS: usize = 50;

/// A two-sided test of paired values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedTest {
    /// The smaller of Wilcoxon's two rank sums, or McNemar's statistic.
    pub statistic: f64,
    /// Two-sided p-value.
    pub p_value: f64,
}

/// Wilcoxon's signed-rank test of the differences of pairs; pairs that do not differ are dropped, ties share the mean of their ranks. The p-value is exact up to 50 pairs, ties included, and by the normal
/// approximation with tie correction beyond; `None` if no pair differs.
pub fn wilcoxon_signed_rank(differences: &[f64]) -> Option<PairedTest> {
    let mut differences = differences.to_vec();
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

/// Twice the rank of each absolute difference (sorted), so that the half ranks of ties are integers.
fn doubled_ranks(sorted: &[f64]) -> Vec<u64> {
    let mut ranks = Vec::with_capacity(sorted.len());
    for tied in sorted.chunk_by(|a, b| a.abs() == b.abs()) {
        let before = ranks.len();
        let rank = (2 * before + tied.len() + 1) as u64;
        ranks.extend(std::iter::repeat_n(rank, tied.len()));
    }
    ranks
}

/// Fraction of the sign assignments whose smaller rank sum is at most `smaller`.
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
