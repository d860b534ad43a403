//! Many methods on many sets: ranks, Friedman's test, Nemenyi's critical difference (Demsar 2006).

use serde::Serialize;
use statrs::distribution::{ChiSquared, Continuous, ContinuousCDF, Normal};

/// Friedman's test over blocks (data sets).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Friedman {
    /// Chi-squared, corrected for ties.
    pub statistic: f64,
    /// p-value: the upper tail with k - 1 degrees of freedom.
    pub p_value: f64,
}

/// Ranks of the values, 1 for the highest; equal values share the mean of their ranks.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        for &index in tied {
            ranks[index] = before as f64 + (tied.len() + 1) as f64 / 2.0;
        }
        before += tied.len();
    }
    ranks
}

/// Mean rank of each method over blocks, each with one value per method; `None` without blocks, or where blocks differ in
/// length.
pub fn average_ranks(blocks: &[Vec<f64>]) -> Option<Vec<f64>> {
    let methods = blocks.first()?.len();
    if blocks.iter().any(|block| block.len() != methods) {
        return None;
    }
    let mut sums = vec![0.0; methods];
    for block in blocks {
        for (sum, rank) in sums.iter_mut().zip(ranks(block)) {
            *sum += rank;
        }
    }
    Some(sums.into_iter().map(|sum| sum / blocks.len() as f64).collect())
}

/// Friedman's test of the hypothesis that all methods rank equally; `None` for fewer than three methods or two blocks, or
/// where all values of every block are tied.
pub fn friedman(blocks: &[Vec<f64>]) -> Option<Friedman> {
    let average = average_ranks(blocks)?;
    let (k, n) = (average.len() as f64, blocks.len() as f64);
    if average.len() < 3 || blocks.len() < 2 {
        return None;
    }
    let squares: f64 = average.iter().map(|rank| (n * rank).powi(2)).sum();
    let uncorrected = 12.0 / (n * k * (k + 1.0)) * squares - 3.0 * n * (k + 1.0);
    let correction = 1.0 - blocks.iter().map(|block| ties(block)).sum::<f64>() / (n * k * (k * k - 1.0));
    if correction <= 0.0 {
        return None;
    }
    let statistic = uncorrected / correction;
    Some(Friedman { statistic, p_value: ChiSquared::new(k - 1.0).ok()?.sf(statistic) })
}

/// Sum of t^3 - t over the groups of t equal values.
fn ties(block: &[f64]) -> f64 {
    let mut sorted = block.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.chunk_by(|a, b| a == b).map(|tied| (tied.len() as f64).powi(3) - tied.len() as f64).sum()
}

/// Difference of two average ranks beyond which two of `methods` differ significantly over `blocks` by Nemenyi's test
/// at the level `alpha`; `None` for fewer than two methods or without blocks.
pub fn nemenyi_critical_difference(methods: usize, blocks: usize, alpha: f64) -> Option<f64> {
    if methods < 2 || blocks == 0 || !(alpha > 0.0 && alpha < 1.0) {
        return None;
    }
    let k = methods as f64;
    let range = studentized_range_quantile(methods, 1.0 - alpha)?;
    Some(range / 2f64.sqrt() * (k * (k + 1.0) / (6.0 * blocks as f64)).sqrt())
}

/// Quantile of the range of `count` standard normal values: bisection on the distribution function, to full precision.
fn studentized_range_quantile(count: usize, share: f64) -> Option<f64> {
    let (mut low, mut high) = (0.0, 100.0);
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        if range_cdf(count, middle)? < share { low = middle } else { high = middle }
    }
    Some((low + high) / 2.0)
}

/// P(range <= q) = k times the integral of f(z) (F(z) - F(z - q))^(k - 1). The integrand is analytic and
/// vanishes at both ends, where the trapezoidal rule converges faster than any power of its step.
fn range_cdf(count: usize, q: f64) -> Option<f64> {
    const STEP: f64 = 1.0 / 16.0;
    const REACH: i32 = 16 * 9;
    let normal = Normal::new(0.0, 1.0).ok()?;
    let term = |z: f64| normal.pdf(z) * (normal.cdf(z) - normal.cdf(z - q)).powi(count as i32 - 1);
    let sum: f64 = (-REACH..=REACH).map(|place| term(f64::from(place) * STEP)).sum();
    Some(count as f64 * STEP * sum)
}
