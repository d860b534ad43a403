//! Under the null hypothesis a test at 5 % rejects in 5 % of the cases; a discrete test may reject less often.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use report::statistics::{self, Discordant, Scores};

const LEVEL: f64 = 0.05;
const DATA_SETS: usize = 4_000;
/// Three standard errors of a proportion of 5 % over [`DATA_SETS`].
const TOLERANCE: f64 = 0.0104;

/// Seeded random numbers; a normal value is the sum of twelve uniform ones minus six.
struct Draws(ChaCha8Rng);

impl Draws {
    fn uniform(&mut self) -> f64 {
        f64::from(self.0.next_u32()) / 4_294_967_296.0
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    fn normals(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.normal()).collect()
    }

    /// Discordant items of two equally accurate methods: each is correct on about half of them.
    fn discordant(&mut self, count: usize) -> Discordant {
        let wins = (0..count).filter(|_| self.uniform() < 0.5).count() as u64;
        Discordant { wins, losses: count as u64 - wins }
    }
}

/// Fraction of simulated data sets whose p-value is below the level.
fn rejections(seed: u64, data_sets: usize, mut p_value: impl FnMut(&mut Draws) -> f64) -> f64 {
    let mut draws = Draws(ChaCha8Rng::seed_from_u64(seed));
    let rejected = (0..data_sets).filter(|_| p_value(&mut draws) < LEVEL).count();
    rejected as f64 / data_sets as f64
}

fn assert_at_level(name: &str, share: f64, lowest: f64) {
    assert!((lowest..=LEVEL + TOLERANCE).contains(&share), "{name} rejects {:.1} % of nulls", 100.0 * share);
}

#[test]
fn the_t_test_rejects_at_its_level() {
    let share = rejections(1, DATA_SETS, |draws| statistics::t_test(&draws.normals(9)).unwrap().p_value);
    assert_at_level("t", share, LEVEL - TOLERANCE);
}

#[test]
fn wilcoxons_test_rejects_at_its_level() {
    for (pairs, seed) in [(19, 2), (57, 3)] {
        let share = rejections(seed, DATA_SETS, |draws| {
            statistics::wilcoxon_signed_rank(&draws.normals(pairs)).unwrap().p_value
        });
        assert_at_level("Wilcoxon", share, LEVEL - TOLERANCE);
    }
}

#[test]
fn mcnemars_tests_reject_at_most_at_their_level() {
    let exact =
        rejections(4, DATA_SETS, |draws| statistics::mcnemar_exact(draws.discordant(80)).unwrap().p_value);
    let corrected = rejections(5, DATA_SETS, |draws| {
        statistics::mcnemar_corrected(draws.discordant(80)).unwrap().p_value
    });
    // Both are conservative, because the counts are discrete.
    assert_at_level("exact McNemar", exact, 0.02);
    assert_at_level("corrected McNemar", corrected, 0.02);
}

#[test]
fn friedmans_test_rejects_at_its_level() {
    let share = rejections(6, DATA_SETS, |draws| {
        let blocks: Vec<Vec<f64>> = (0..25).map(|_| draws.normals(5)).collect();
        statistics::friedman(&blocks).unwrap().p_value
    });
    assert_at_level("Friedman", share, LEVEL - 2.0 * TOLERANCE);
}

#[test]
fn the_bootstrap_rejects_near_its_level() {
    let share = rejections(7, 1_000, |draws| {
        let strata: Vec<Vec<f64>> = (0..3).map(|_| draws.normals(40)).collect();
        statistics::paired_bootstrap(&strata, 400, 11).unwrap().p_value
    });
    // Percentile intervals of small samples are slightly too narrow.
    assert!((0.03..=0.09).contains(&share), "{share}");
}

/// Differences of two equal methods on sets that vary, with trainings within each: the correlation of two trainings of
/// one set is that of our own sweeps (0.34 to 0.95, results/measured).
fn nested(draws: &mut Draws, sets: usize, trainings: usize, correlation: f64, mean: f64) -> Vec<Vec<f64>> {
    let set = |draws: &mut Draws| {
        let of_set = mean + correlation.sqrt() * draws.normal();
        (0..trainings).map(|_| of_set + (1.0 - correlation).sqrt() * draws.normal()).collect()
    };
    (0..sets).map(|_| set(draws)).collect()
}

/// The same where one training is evaluated on all sets: sets and trainings vary on their own.
fn crossed(draws: &mut Draws, sets: usize, trainings: usize, of_training: f64) -> Vec<Vec<f64>> {
    let common: Vec<f64> = draws.normals(trainings).into_iter().map(|value| of_training * value).collect();
    let set = |draws: &mut Draws| {
        let of_set = draws.normal();
        common.iter().map(|training| of_set + training + 0.5 * draws.normal()).collect()
    };
    (0..sets).map(|_| set(draws)).collect()
}

fn means(strata: &[Vec<f64>]) -> Vec<f64> {
    strata.iter().map(|set| statistics::mean(set).unwrap()).collect()
}

#[test]
fn the_test_by_set_rejects_at_its_level_where_that_over_all_pairs_does_not() {
    for (correlation, seed) in [(0.34, 10), (0.6, 11), (0.95, 12)] {
        let pooled = rejections(seed, 2_000, |draws| {
            statistics::t_test(&nested(draws, 19, 3, correlation, 0.0).concat()).unwrap().p_value
        });
        assert!(pooled > 0.1, "57 pairs at a correlation of {correlation}: {pooled}");
        let by_set = rejections(seed, 2_000, |draws| {
            statistics::t_test(&means(&nested(draws, 19, 3, correlation, 0.0))).unwrap().p_value
        });
        println!("correlation {correlation}: over pairs {pooled:.3}, by set {by_set:.3}");
        assert!((0.035..=0.065).contains(&by_set), "by set at a correlation of {correlation}: {by_set}");
    }
}

#[test]
fn the_test_by_training_rejects_at_its_level_on_fixed_sets() {
    let share = rejections(13, 2_000, |draws| {
        // The sets' own differences sum to 0, so these sets have no mean difference.
        let mut strata = nested(draws, 19, 3, 0.5, 0.0);
        let of_sets: Vec<f64> = (0..19).map(|set| f64::from(set - 9)).collect();
        for (set, expected) in strata.iter_mut().zip(of_sets) {
            set.fill_with(|| expected + draws.normal());
        }
        statistics::stratified_t_test(&strata).unwrap().p_value
    });
    assert!((0.035..=0.065).contains(&share), "{share}");
}

#[test]
fn where_sets_share_trainings_the_test_by_set_includes_their_variance() {
    for (sets, trainings, of_training, seed) in [(7, 3, 0.5, 14), (8, 3, 1.0, 15), (8, 10, 1.0, 16)] {
        let naive = rejections(seed, 2_000, |draws| {
            statistics::t_test(&means(&crossed(draws, sets, trainings, of_training))).unwrap().p_value
        });
        let min_f = rejections(seed, 2_000, |draws| {
            statistics::crossed_t_test(&crossed(draws, sets, trainings, of_training)).unwrap().p_value
        });
        println!("{sets} sets, {trainings} trainings: over sets {naive:.3}, min F' {min_f:.3}");
        assert!(naive > 0.07 && min_f < 0.06 && min_f < naive, "{naive}, {min_f}");
    }
}

#[test]
fn intervals_cover_the_true_mean_at_their_level() {
    const TRUE_MEAN: f64 = 0.7;
    for (sets, correlation, seed) in
        [(5, 0.34, 17), (5, 0.95, 18), (8, 0.6, 19), (19, 0.34, 20), (19, 0.95, 21)]
    {
        let missed = rejections(seed, 1_000, |draws| {
            let means = means(&nested(draws, sets, 3, correlation, TRUE_MEAN));
            let (low, high) = statistics::studentised_interval(&means, 0.95, 400, 1).unwrap();
            if (low..=high).contains(&TRUE_MEAN) { 1.0 } else { 0.0 }
        });
        println!("{sets} sets, correlation {correlation}: covered {:.3}", 1.0 - missed);
        assert!((0.03..=0.07).contains(&missed), "{sets} sets, correlation {correlation}: missed {missed}");
        let over_pairs = rejections(seed, 1_000, |draws| {
            let pairs = nested(draws, sets, 3, correlation, TRUE_MEAN).concat();
            let (low, high) = statistics::t_interval(&pairs, 0.95).unwrap();
            if (low..=high).contains(&TRUE_MEAN) { 1.0 } else { 0.0 }
        });
        assert!(over_pairs > 0.1, "an interval over all pairs covers too little, {over_pairs}");
    }
}

#[test]
fn intervals_of_aggregates_cover_over_trainings_on_fixed_sets() {
    let expected: Vec<f64> = (0..19).map(|set| f64::from(set) / 4.0).collect();
    let truth = statistics::mean(&expected).unwrap();
    let missed = rejections(22, 600, |draws| {
        let sets = expected.iter().map(|mean| draws.normals(3).iter().map(|value| mean + value).collect());
        let scores = Scores { sets: sets.collect(), shared: false };
        let mean = |scores: &[Scores]| statistics::mean(&scores[0].sets.concat());
        let (low, high) = Scores::interval_95(&[&scores], 200, 1, mean).unwrap();
        if (low..=high).contains(&truth) { 1.0 } else { 0.0 }
    });
    assert!((0.025..=0.085).contains(&missed), "{missed}");
}

#[test]
fn holms_correction_bounds_the_family_wise_error() {
    let share = rejections(8, DATA_SETS, |draws| {
        let raw: Vec<f64> = (0..8).map(|_| statistics::t_test(&draws.normals(9)).unwrap().p_value).collect();
        statistics::holm(&raw).into_iter().fold(1.0, f64::min)
    });
    assert_at_level("Holm", share, LEVEL - TOLERANCE);
}

#[test]
fn nemenyis_critical_difference_is_exceeded_at_its_level() {
    let critical = statistics::nemenyi_critical_difference(5, 30, LEVEL).unwrap();
    let share = rejections(9, DATA_SETS, |draws| {
        let blocks: Vec<Vec<f64>> = (0..30).map(|_| draws.normals(5)).collect();
        let ranks = statistics::average_ranks(&blocks).unwrap();
        let range =
            ranks.iter().copied().fold(0.0, f64::max) - ranks.iter().copied().fold(f64::INFINITY, f64::min);
        if range > critical { 0.0 } else { 1.0 }
    });
    assert_at_level("Nemenyi", share, LEVEL - 2.0 * TOLERANCE);
}
