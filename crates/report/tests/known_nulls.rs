//! Under the null hypothesis a test at 5 % rejects in 5 % of the cases; a discrete test may reject less often.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use report::statistics::{self, Discordant};

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
    let share = rejections(1, DATA_SETS, |draws| {
        statistics::paired_t_test(&draws.normals(9), &draws.normals(9)).unwrap().p_value
    });
    assert_at_level("t", share, LEVEL - TOLERANCE);
}

#[test]
fn wilcoxons_test_rejects_at_its_level() {
    for (pairs, seed) in [(19, 2), (57, 3)] {
        let share = rejections(seed, DATA_SETS, |draws| {
            statistics::wilcoxon_signed_rank(&draws.normals(pairs), &draws.normals(pairs)).unwrap().p_value
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

#[test]
fn holms_correction_bounds_the_family_wise_error() {
    let share = rejections(8, DATA_SETS, |draws| {
        let raw: Vec<f64> = (0..8)
            .map(|_| statistics::paired_t_test(&draws.normals(9), &draws.normals(9)).unwrap().p_value)
            .collect();
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
