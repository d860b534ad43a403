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
