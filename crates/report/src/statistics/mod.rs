//! Statistics of samples and of pairs: pure functions of numbers, independent of records.
//!
//! They are called by [`crate::comparison`]. `means` tests a mean difference between two methods with the training as
//! the unit, `paired` and `items` test without assuming a distribution, `bootstrap` gives intervals, `ranks` compares
//! many methods at once, `aggregates` summarises one over sets and trainings, `power` says how many more would be
//! needed. Each function is checked against scipy or statsmodels (tests/statistics.rs), and against simulated data
//! (tests/known_nulls.rs). A quantity that is undefined for the data (the spread of one value, a test of differences
//! that are all equal) is `None`, never zero or infinite.

mod aggregates;
mod bootstrap;
mod items;
mod means;
mod paired;
mod power;
mod ranks;

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

pub use aggregates::{
    Scores, interquartile_mean, optimality_gap, performance_profile, probability_of_improvement,
};
pub use bootstrap::{Bootstrap, paired_bootstrap, studentised_interval};
pub use items::{Discordant, mcnemar_corrected, mcnemar_exact};
pub use means::{Components, TTest, column_means, crossed_t_test, stratified_t_test, t_test};
pub use paired::{PairedTest, wilcoxon_signed_rank};
pub use power::{needed_noncentrality, t_test_power, units_needed};
pub use ranks::{Friedman, average_ranks, friedman, nemenyi_critical_difference, ranks};

/// A sample's mean and spread; the spread of a single value is `None`.
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
    /// Of the values; `None` without values.
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

/// Arithmetic mean; `None` without values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample standard deviation (divisor n - 1); `None` for fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// Standard error of the mean: the sample standard deviation divided by the square root of n.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    Some(standard_deviation(values)? / (values.len() as f64).sqrt())
}

/// Student's confidence interval of the mean, `confidence` in (0, 1); `None` for fewer than two values.
pub fn t_interval(values: &[f64], confidence: f64) -> Option<(f64, f64)> {
    let (centre, error) = (mean(values)?, standard_error(values)?);
    let student = StudentsT::new(0.0, 1.0, (values.len() - 1) as f64).ok()?;
    let reach = student.inverse_cdf(0.5 + confidence / 2.0) * error;
    Some((centre - reach, centre + reach))
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
