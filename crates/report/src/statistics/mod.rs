//! Statistics of samples and of pairs: pure functions of numbers, independent of records.
//!
//! They are called by [`crate::comparison`]. `paired` tests values of sets and seeds, `items` tests predictions on
//! single items, `ranks` compares many methods at once. Each function is checked against scipy or statsmodels
//! (tests/statistics.rs), and against data simulated under the null hypothesis (tests/known_nulls.rs). A quantity that
//! is undefined for the data (the spread of one value, a test of pairs that never differ) is `None`, never zero or
//! infinite.

mod items;
mod paired;
mod ranks;

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

pub use items::{Bootstrap, Discordant, mcnemar_corrected, mcnemar_exact, paired_bootstrap};
pub use paired::{PairedTest, paired_t_test, wilcoxon_signed_rank};
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
