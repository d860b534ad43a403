//! The mean difference of two methods: its interval, its tests, and how many more sets or seeds it would need.
//!
//! Two questions have two tests. *By training*: would other seeds on the same sets give this difference? *By set*:
//! would other sets (and seeds) of this kind? Where one model is trained for all sets, a training varies on all of them
//! together, so its variance is added to that of the sets (min F'), and a single seed answers neither question.

use serde::Serialize;

use crate::comparison::row::Row;
use crate::statistics::{
    Components, PairedTest, TTest, column_means, crossed_t_test, mean, needed_noncentrality,
    stratified_t_test, studentised_interval, t_test, units_needed, wilcoxon_signed_rank,
};

/// Significance level of every test, after correction.
pub const SIGNIFICANCE: f64 = 0.05;

/// Power for which the needed numbers are computed.
pub const POWER: f64 = 0.8;

/// Fewest sets for a bootstrap over them; below, the interval is Student's.
const FEWEST_SETS: usize = 5;

/// Number of bootstrap resamples, and their seed.
const RESAMPLES: usize = 2_000;
const BOOTSTRAP_SEED: u64 = 0;

/// The paired differences of two rows, in points.
#[derive(Debug, Clone, PartialEq)]
pub struct Differences {
    /// By set, then by the seeds that both rows have there; sets without one are left out.
    pub sets: Vec<Vec<f64>>,
    /// Whether one training is evaluated on all sets.
    pub shared: bool,
}

/// Both tests of a mean difference; one is `None` where its data do not suffice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tests {
    /// Sets and trainings vary.
    pub by_set: Option<TTest>,
    /// The sets are fixed, trainings vary.
    pub by_training: Option<TTest>,
}

/// A mean difference and what is known about it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean over sets of the mean over seeds, in points.
    pub mean: f64,
    /// Number of sets that both have.
    pub sets: usize,
    /// Number of pairs of trainings.
    pub trainings: usize,
    /// Whether each training was evaluated on all sets.
    pub shared: bool,
    /// Standard error of the mean, of the test by set, or of that by training on a single set.
    pub standard_error: Option<f64>,
    /// 95 % interval: bootstrap-t over sets from 5 sets on, otherwise Student's with the standard error.
    pub interval_95: Option<(f64, f64)>,
    /// Its tests.
    pub tests: Tests,
    /// Wilcoxon's test over the sets' means; `None` where all sets share their trainings, whose variance it ignores.
    pub wilcoxon: Option<PairedTest>,
    /// Correlation of two trainings of one set; `None` if each has one, or all sets share them.
    pub intraclass_correlation: Option<f64>,
    /// What would be needed to tell the mean from 0.
    pub needed: Needed,
}

/// Numbers for which a difference of this size and spread is significant at 0.05, uncorrected, with a power of 80 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Needed {
    /// Sets, with as many seeds on each; `None` if unknown, or where all sets share their trainings.
    pub sets: Option<usize>,
    /// Seeds, with the same sets.
    pub seeds: Seeds,
}

/// A number of seeds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seeds {
    /// This number.
    Count(usize),
    /// The sets differ among themselves so much that no number suffices.
    NoNumber,
    /// The spread over seeds is not known.
    #[default]
    Unknown,
}

impl Differences {
    /// Of one row minus another, paired by set and seed.
    pub(super) fn between(row: &Row, baseline: &Row, shared: bool) -> Self {
        let pairs = row.cells.iter().zip(&baseline.cells).map(|(ours, theirs)| {
            let seeds = ours.outcomes.iter().zip(&theirs.outcomes);
            let differences = seeds.filter_map(|(a, b)| Some(a.accuracy()? - b.accuracy()?));
            differences.collect::<Vec<f64>>()
        });
        Self { sets: pairs.filter(|set| !set.is_empty()).collect(), shared }
    }

    pub(super) fn tests(&self) -> Tests {
        let means = self.means();
        if self.shared {
            let by_training = column_means(&self.sets).and_then(|seeds| t_test(&seeds));
            return Tests { by_set: crossed_t_test(&self.sets), by_training };
        }
        Tests { by_set: t_test(&means), by_training: stratified_t_test(&self.sets) }
    }

    fn means(&self) -> Vec<f64> {
        self.sets.iter().filter_map(|set| mean(set)).collect()
    }
}

impl Tests {
    /// The test on which the interval is based: by set, or by training where there is a single set.
    fn main(&self) -> Option<TTest> {
        self.by_set.or(self.by_training)
    }
}

impl Estimate {
    /// `None` if the two rows have no set and seed in common.
    pub(super) fn of(differences: &Differences) -> Option<Self> {
        let means = differences.means();
        let tests = differences.tests();
        let by_student = tests.main().and_then(|test| test.interval(0.95));
        let bootstrapped = (!differences.shared && means.len() >= FEWEST_SETS)
            .then(|| studentised_interval(&means, 0.95, RESAMPLES, BOOTSTRAP_SEED))
            .flatten();
        let most = differences.sets.iter().map(Vec::len).max().unwrap_or(0);
        let all = differences.sets.iter().map(Vec::len).sum();
        let components = Components::of(&differences.sets).filter(|_| !differences.shared);
        Some(Self {
            mean: mean(&means)?,
            sets: means.len(),
            trainings: if differences.shared { most } else { all },
            shared: differences.shared,
            standard_error: tests.main().map(|test| test.standard_error),
            interval_95: bootstrapped.or(by_student),
            tests,
            wilcoxon: (!differences.shared).then(|| wilcoxon_signed_rank(&means)).flatten(),
            intraclass_correlation: components.map(|components| components.intraclass_correlation()),
            needed: Needed::of(&tests, means.len(), differences.shared, components),
        })
    }
}

impl Needed {
    fn of(tests: &Tests, sets: usize, shared: bool, components: Option<Components>) -> Self {
        let from_units = |test: TTest, units: usize| {
            units_needed(test.mean / (test.standard_error * (units as f64).sqrt()), POWER, SIGNIFICANCE)
        };
        if shared {
            // The test by training has one value a seed.
            let seeds = tests.by_training.map(|test| from_units(test, test.degrees_of_freedom as usize + 1));
            let seeds = seeds.map_or(Seeds::Unknown, |found| found.map_or(Seeds::NoNumber, Seeds::Count));
            return Self { sets: None, seeds };
        }
        let seeds = tests.by_set.zip(components).and_then(|(test, components)| {
            let noncentrality = needed_noncentrality(test.degrees_of_freedom, POWER, SIGNIFICANCE)?;
            // The variance of the mean must not exceed this; sets contribute `between` however many seeds there are.
            let left = sets as f64 * (test.mean / noncentrality).powi(2) - components.between;
            let found = (components.within / left).ceil().max(1.0);
            Some(if left > 0.0 && found < 1e6 { Seeds::Count(found as usize) } else { Seeds::NoNumber })
        });
        Self { sets: tests.by_set.and_then(|test| from_units(test, sets)), seeds: seeds.unwrap_or_default() }
    }
}
