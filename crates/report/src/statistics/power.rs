//! How many sets or trainings a t test would need to tell a difference of the observed size from 0.

use statrs::distribution::{ChiSquared, Continuous, ContinuousCDF, Normal, StudentsT};

/// Probability that a two-sided t test at the level `alpha` rejects, for a mean that is `noncentrality` of its standard
/// errors away from 0; `None` where the distributions are undefined.
///
/// The statistic is (Z + noncentrality) / s with s^2 chi-squared by its degrees of freedom, integrated over s.
pub fn t_test_power(degrees_of_freedom: f64, noncentrality: f64, alpha: f64) -> Option<f64> {
    const STEPS: usize = 2_000;
    let critical = StudentsT::new(0.0, 1.0, degrees_of_freedom).ok()?.inverse_cdf(1.0 - alpha / 2.0);
    let (normal, squares) = (Normal::new(0.0, 1.0).ok()?, ChiSquared::new(degrees_of_freedom).ok()?);
    let rejected =
        |s: f64| normal.cdf(noncentrality - critical * s) + normal.cdf(-noncentrality - critical * s);
    let density = |s: f64| 2.0 * degrees_of_freedom * s * squares.pdf(degrees_of_freedom * s * s);
    // Simpson's rule; s is close to 1 for many degrees of freedom, and the integrand vanishes at the upper end.
    let start = (1.0 - 8.0 / degrees_of_freedom.sqrt()).max(0.0);
    let width = (1.0 + 8.0 / degrees_of_freedom.sqrt() - start) / STEPS as f64;
    let weight = |place: usize| match place {
        0 | STEPS => 1.0,
        odd if odd % 2 == 1 => 4.0,
        _ => 2.0,
    };
    let term = |place: usize| {
        let s = (start + place as f64 * width).max(1e-9);
        weight(place) * density(s) * rejected(s)
    };
    Some((0..=STEPS).map(term).sum::<f64>() * width / 3.0)
}

/// The noncentrality at which the test has this power; `None` where the distributions are undefined.
pub fn needed_noncentrality(degrees_of_freedom: f64, power: f64, alpha: f64) -> Option<f64> {
    let (mut low, mut high) = (0.0, 1_000.0);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        if t_test_power(degrees_of_freedom, middle, alpha)? < power { low = middle } else { high = middle }
    }
    Some(high)
}

/// The fewest independent units, of which the mean is `effect` standard deviations away from 0, for which a t test has
/// this power; `None` where a million do not suffice.
pub fn units_needed(effect: f64, power: f64, alpha: f64) -> Option<usize> {
    const MOST: usize = 1_000_000;
    let suffices = |units: usize| {
        let of_units = t_test_power((units - 1) as f64, effect.abs() * (units as f64).sqrt(), alpha);
        of_units.is_some_and(|reached| reached >= power)
    };
    let (mut low, mut high) = (1, MOST);
    suffices(high).then_some(())?;
    while high - low > 1 {
        let middle = low.midpoint(high);
        if suffices(middle) { high = middle } else { low = middle }
    }
    Some(high)
}
