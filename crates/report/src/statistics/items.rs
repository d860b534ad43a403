//! Tests on single items: two methods evaluated on the same items of a test split.

use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF};
use statrs::function::gamma::ln_gamma;

use crate::statistics::PairedTest;

/// Items on which exactly one of two methods is correct.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Discordant {
    /// Only the first is correct.
    pub wins: u64,
    /// Only the second is correct.
    pub losses: u64,
}

/// McNemar's exact test by the binomial distribution: statistic min(wins, losses); `None` if there is no discordant
/// item.
pub fn mcnemar_exact(pairs: Discordant) -> Option<PairedTest> {
    let (fewer, total) = (pairs.wins.min(pairs.losses), pairs.wins + pairs.losses);
    if total == 0 {
        return None;
    }
    // The terms of Binomial(total, 1/2) from `fewer` downwards: each is the one before times k / (total - k + 1).
    let (n, k) = (total as f64, fewer as f64);
    let last = ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0) - n * std::f64::consts::LN_2;
    let (mut term, mut sum) = (1.0, 0.0);
    for below in (0..=fewer).rev() {
        sum += term;
        term *= below as f64 / (n - below as f64 + 1.0);
    }
    Some(PairedTest { statistic: k, p_value: (2.0 * last.exp() * sum).min(1.0) })
}

/// McNemar's test by the chi-squared distribution with Edwards' continuity correction (1948); `None` if there
/// is no discordant item.
pub fn mcnemar_corrected(pairs: Discordant) -> Option<PairedTest> {
    let (wins, losses) = (pairs.wins as f64, pairs.losses as f64);
    if wins + losses == 0.0 {
        return None;
    }
    let statistic = ((wins - losses).abs() - 1.0).powi(2) / (wins + losses);
    Some(PairedTest { statistic, p_value: ChiSquared::new(1.0).ok()?.sf(statistic) })
}

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
/// each stratum with replacement and averages the means of the strata. The random numbers are those of SplitMix64 from
/// `seed`, so that equal data give equal results on every machine. `None` without strata, with an empty one, or without
/// resamples.
pub fn paired_bootstrap(strata: &[Vec<f64>], resamples: usize, seed: u64) -> Option<Bootstrap> {
    if strata.is_empty() || resamples == 0 || strata.iter().any(Vec::is_empty) {
        return None;
    }
    let mean = |sum_of: &mut dyn FnMut(&[f64]) -> f64| {
        strata.iter().map(|stratum| sum_of(stratum) / stratum.len() as f64).sum::<f64>() / strata.len() as f64
    };
    let observed = mean(&mut |stratum| stratum.iter().sum());
    let mut state = seed;
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| mean(&mut |stratum| stratum.iter().map(|_| stratum[below(&mut state, stratum.len())]).sum()))
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

/// A uniform integer below `bound`: the upper half of the product with SplitMix64's next value (Steele et al. 2014).
fn below(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    ((u128::from(mixed) * bound as u128) >> 64) as usize
}

/// Linear interpolation between neighbouring values, like numpy's default.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + part * (sorted[high] - sorted[low])
}
