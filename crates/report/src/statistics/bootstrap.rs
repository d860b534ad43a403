//! Bootstrap intervals. The random numbers are those of SplitMix64, so that equal data give equal results on every
//! machine.

use serde::Serialize;

use crate::statistics::{mean, standard_error};

/// The bootstrap result for a mean difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bootstrap {
    /// The mean difference of the data; with several strata, the mean of their means.
    pub mean: f64,
    /// Percentile interval, 95 %.
    pub interval_95: (f64, f64),
    /// Two-sided p-value: twice the smaller fraction of resamples on one side of 0 (resamples equal to 0 count on both
    /// sides), at most 1 and never 0.
    pub p_value: f64,
}

/// Stratified paired bootstrap of differences (the strata are the items of each test set): every resample draws from
/// each stratum with replacement and averages the means of the strata. `None` without strata, with an empty one, or
/// without resamples.
pub fn paired_bootstrap(strata: &[Vec<f64>], resamples: usize, seed: u64) -> Option<Bootstrap> {
    if strata.is_empty() || resamples == 0 || strata.iter().any(Vec::is_empty) {
        return None;
    }
    let mean = |sum_of: &mut dyn FnMut(&[f64]) -> f64| {
        strata.iter().map(|stratum| sum_of(stratum) / stratum.len() as f64).sum::<f64>() / strata.len() as f64
    };
    let observed = mean(&mut |stratum| stratum.iter().sum());
    let mut random = SplitMix64(seed);
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| mean(&mut |stratum| stratum.iter().map(|_| stratum[random.below(stratum.len())]).sum()))
        .collect();
    means.sort_by(f64::total_cmp);
    let share = |count: usize| (count + 1) as f64 / (resamples + 1) as f64;
    let not_above = means.iter().filter(|&&value| value <= 0.0).count();
    let not_below = means.iter().filter(|&&value| value >= 0.0).count();
    Some(Bootstrap {
        mean: observed,
        interval_95: (quantile(&means, 0.025), quantile(&means, 0.975)),
        p_value: (2.0 * share(not_above.min(not_below))).min(1.0),
    })
}

/// Bootstrap-t interval of the mean of independent values, here of the sets' mean differences: a resample draws sets
/// with all their trainings, and its deviation is divided by its own standard error (Efron & Tibshirani 1993, section
/// 12.5; Davison & Hinkley 1997, section 3.8, on why trainings are not resampled within the sets as well: their
/// variance is already in that of the sets' means). With 5 to 19 sets it covers 92 to 96 %, where percentiles cover
/// 80 to 98 % (tests/known_nulls.rs). Resamples of a single value repeated have no standard error and are left out.
/// `None` for fewer than two values, values that are all equal, or no resample.
pub fn studentised_interval(
    values: &[f64],
    confidence: f64,
    resamples: usize,
    seed: u64,
) -> Option<(f64, f64)> {
    values.iter().any(|value| *value != values[0]).then_some(())?;
    let (centre, error) = (mean(values)?, standard_error(values)?);
    let mut random = SplitMix64(seed);
    let mut ratios: Vec<f64> = Vec::with_capacity(resamples);
    let mut resample = vec![0.0; values.len()];
    for _ in 0..resamples {
        resample.fill_with(|| values[random.below(values.len())]);
        if resample.iter().any(|value| *value != resample[0]) {
            let spread = standard_error(&resample)?;
            ratios.push((mean(&resample)? - centre) / spread);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    (!ratios.is_empty())
        .then(|| (centre - quantile(&ratios, 1.0 - tail) * error, centre - quantile(&ratios, tail) * error))
}

/// SplitMix64 (Steele et al. 2014).
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    /// A uniform integer below `bound`: the upper half of the product with the next value.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * bound as u128) >> 64) as usize
    }
}

/// Linear interpolation between neighbouring values, like numpy's default.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + part * (sorted[high] - sorted[low])
}
