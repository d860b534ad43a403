//! Tests of a mean difference between two methods, where the independent unit is a training.
//!
//! Differences of one data set are correlated: the set is easier for one of the two methods. A t test over all pairs of
//! sets and seeds ignores that and rejects 13 to 26 % of true null hypotheses at a nominal 5 %
//! (tests/known_nulls.rs). The tests here have one value for each unit that varies: sets, trainings within sets, or
//! both where the sets of a seed share one training.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::statistics::{mean, standard_deviation, standard_error};

/// Spread of equal values relative to their size, by which a sum and a mean are rounded.
const ROUNDING: f64 = 1e-12;

/// A two-sided t test of the hypothesis that a mean is 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TTest {
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Degrees of freedom; Satterthwaite's approximation where several variances add up.
    pub degrees_of_freedom: f64,
    /// Student's t.
    pub statistic: f64,
    /// Two-sided p-value.
    pub p_value: f64,
}

impl TTest {
    /// `None` where the standard error is not finite, or not above the rounding of equal values: a test is undefined
    /// there.
    fn new(mean: f64, standard_error: f64, degrees_of_freedom: f64) -> Option<Self> {
        (standard_error > ROUNDING * mean.abs() && standard_error.is_finite()).then_some(())?;
        let statistic = mean / standard_error;
        let student = StudentsT::new(0.0, 1.0, degrees_of_freedom).ok()?;
        let p_value = 2.0 * student.cdf(-statistic.abs());
        Some(Self { mean, standard_error, degrees_of_freedom, statistic, p_value })
    }

    /// Student's interval of the mean, `confidence` in (0, 1); `None` where the distribution is undefined.
    pub fn interval(&self, confidence: f64) -> Option<(f64, f64)> {
        let student = StudentsT::new(0.0, 1.0, self.degrees_of_freedom).ok()?;
        let reach = student.inverse_cdf(0.5 + confidence / 2.0) * self.standard_error;
        Some((self.mean - reach, self.mean + reach))
    }
}

/// Student's test of independent values; `None` for fewer than two, or where all are equal.
pub fn t_test(values: &[f64]) -> Option<TTest> {
    TTest::new(mean(values)?, standard_error(values)?, (values.len() - 1) as f64)
}

/// The mean of the strata's means where the strata (sets) are fixed and only values within them (trainings) vary:
/// standard error from the variances within, each its own (Welch 1947). `None` without strata, where one has fewer
/// than two values, or where no value varies.
pub fn stratified_t_test(strata: &[Vec<f64>]) -> Option<TTest> {
    let means: Vec<f64> = strata.iter().map(|stratum| mean(stratum)).collect::<Option<_>>()?;
    let errors: Vec<f64> = strata.iter().map(|stratum| standard_error(stratum)).collect::<Option<_>>()?;
    let squares = |power: i32| errors.iter().map(move |error| error.powi(power));
    let variance: f64 = squares(2).sum();
    let parts = squares(4).zip(strata).map(|(square, stratum)| square / (stratum.len() - 1) as f64);
    let degrees_of_freedom = variance.powi(2) / parts.sum::<f64>();
    TTest::new(mean(&means)?, variance.sqrt() / strata.len() as f64, degrees_of_freedom)
}

/// The mean of a table of sets (rows) by trainings (columns), where every training was evaluated on every set and both
/// vary: Clark's min F' (1973), whose variance is the sum of those of the means of rows and of columns. It is
/// conservative by the variance of what is left, which is in both. `None` for fewer than two rows or columns, a ragged
/// table, or one that does not vary.
pub fn crossed_t_test(table: &[Vec<f64>]) -> Option<TTest> {
    let rows: Vec<f64> = table.iter().map(|row| mean(row)).collect::<Option<_>>()?;
    let columns = column_means(table)?;
    let (of_rows, of_columns) = (standard_error(&rows)?.powi(2), standard_error(&columns)?.powi(2));
    let variance = of_rows + of_columns;
    let parts = of_rows.powi(2) / (rows.len() - 1) as f64 + of_columns.powi(2) / (columns.len() - 1) as f64;
    TTest::new(mean(&rows)?, variance.sqrt(), variance.powi(2) / parts)
}

/// The mean of each column; `None` for a ragged or empty table.
pub fn column_means(table: &[Vec<f64>]) -> Option<Vec<f64>> {
    let width = table.first()?.len();
    table.iter().all(|row| row.len() == width).then_some(())?;
    (0..width).map(|column| mean(&table.iter().map(|row| row[column]).collect::<Vec<_>>())).collect()
}

/// How the variance of differences divides between sets and trainings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Components {
    /// Variance of the sets' expected differences, not below 0.
    pub between: f64,
    /// Variance of a training within its set.
    pub within: f64,
}

impl Components {
    /// Estimated by the method of moments; `None` for fewer than two sets, or fewer than two trainings of any.
    pub fn of(strata: &[Vec<f64>]) -> Option<Self> {
        let variances: Vec<f64> =
            strata.iter().map(|set| standard_deviation(set).map(|sd| sd * sd)).collect::<Option<_>>()?;
        let of_means: Vec<f64> =
            variances.iter().zip(strata).map(|(variance, set)| variance / set.len() as f64).collect();
        let means: Vec<f64> = strata.iter().map(|set| mean(set)).collect::<Option<_>>()?;
        let total = standard_deviation(&means)?.powi(2);
        Some(Self { between: (total - mean(&of_means)?).max(0.0), within: mean(&variances)? })
    }

    /// Correlation of two trainings of one set: the part of the variance that is between sets.
    pub fn intraclass_correlation(&self) -> f64 {
        self.between / (self.between + self.within)
    }
}
