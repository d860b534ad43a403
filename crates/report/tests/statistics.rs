//! Our statistics compared with scipy's and statsmodels' (tools/statistics_fixtures.py).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use report::statistics::{self, Discordant, PairedTest, Scores, TTest};
use serde_json::Value;

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/statistics.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn assert_close(name: &str, ours: f64, theirs: &Value) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= 1e-9 * theirs.abs().max(1e-3), "{name}: {ours} is not {theirs}");
}

fn assert_test(name: &str, ours: PairedTest, theirs: &Value) {
    assert_close(name, ours.p_value, &theirs["p_value"]);
    assert_close(name, ours.statistic, &theirs["statistic"]);
}

#[test]
fn the_spread_of_a_sample_equals_scipy() {
    for sample in fixture()["samples"].as_array().unwrap() {
        let values = numbers(&sample["values"]);
        assert_close("mean", statistics::mean(&values).unwrap(), &sample["mean"]);
        assert_close("sd", statistics::standard_deviation(&values).unwrap(), &sample["standard_deviation"]);
        assert_close(
            "standard error",
            statistics::standard_error(&values).unwrap(),
            &sample["standard_error"],
        );
        let (low, high) = statistics::t_interval(&values, 0.95).unwrap();
        assert_close("low", low, &sample["interval_95"][0]);
        assert_close("high", high, &sample["interval_95"][1]);
    }
}

#[test]
fn wilcoxons_test_equals_scipy_with_and_without_ties() {
    for case in list(&fixture(), "wilcoxon") {
        let name = case["name"].as_str().unwrap();
        assert_test(name, statistics::wilcoxon_signed_rank(&numbers(&case["differences"])).unwrap(), case);
    }
}

fn assert_t_test(name: &str, ours: Option<TTest>, theirs: &Value) {
    let Some(ours) = ours else { return assert!(theirs.is_null(), "{name}: None, not {theirs}") };
    assert!(!theirs.is_null(), "{name}: {ours:?} is undefined");
    assert_close(name, ours.p_value, &theirs["p_value"]);
    assert_close(name, ours.statistic, &theirs["statistic"]);
}

#[test]
fn tests_and_intervals_over_sets_and_trainings_equal_scipy_in_twenty_cases() {
    let fixture = fixture();
    let cases = list(&fixture, "two_level");
    assert_eq!(cases.len(), 20);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let strata: Vec<Vec<f64>> = list(case, "strata").iter().map(numbers).collect();
        let means: Vec<f64> = strata.iter().map(|set| statistics::mean(set).unwrap()).collect();
        assert_t_test(name, statistics::t_test(&means), &case["by_set"]);
        assert_t_test(name, statistics::stratified_t_test(&strata), &case["by_training"]);
        assert_t_test(name, statistics::crossed_t_test(&strata), &case["crossed"]);
        match statistics::studentised_interval(&means, 0.95, 199, 5) {
            None => assert!(case["studentised"].is_null(), "{name}"),
            Some((low, high)) => {
                assert_close(name, low, &case["studentised"][0]);
                assert_close(name, high, &case["studentised"][1]);
            }
        }
    }
}

#[test]
fn power_and_needed_units_equal_statsmodels() {
    for case in list(&fixture(), "power") {
        let (degrees, noncentrality) =
            (case["degrees_of_freedom"].as_f64().unwrap(), case["noncentrality"].as_f64().unwrap());
        let ours = statistics::t_test_power(degrees, noncentrality, 0.05).unwrap();
        assert!((ours - case["power"].as_f64().unwrap()).abs() < 1e-6, "{ours}: {case}");
        let back = statistics::needed_noncentrality(degrees, ours, 0.05).unwrap();
        assert!((back - noncentrality).abs() < 1e-4, "{back}: {case}");
    }
    for case in list(&fixture(), "needed") {
        let units = statistics::units_needed(case["effect"].as_f64().unwrap(), 0.8, 0.05).unwrap();
        assert_eq!(units as u64, case["units"].as_u64().unwrap(), "{case}");
    }
}

#[test]
fn aggregates_and_their_intervals_equal_rliables_formulas() {
    for case in list(&fixture(), "aggregates") {
        let scores = |name: &str| Scores {
            sets: list(case, name).iter().map(numbers).collect(),
            shared: case["shared"].as_bool().unwrap(),
        };
        let (first, second) = (scores("first"), scores("second"));
        let of_middle = |scores: &[Scores]| statistics::interquartile_mean(&scores[0]);
        assert_close("IQM", of_middle(std::slice::from_ref(&first)).unwrap(), &case["interquartile_mean"]);
        let interval = Scores::interval_95(&[&first], 150, 3, of_middle).unwrap();
        assert_close("IQM, low", interval.0, &case["interquartile_mean_interval"][0]);
        assert_close("IQM, high", interval.1, &case["interquartile_mean_interval"][1]);
        assert_close("gap", statistics::optimality_gap(&first, 0.5).unwrap(), &case["optimality_gap"]);
        let improvement = |both: &[Scores]| statistics::probability_of_improvement(&both[0], &both[1]);
        let found = improvement(&[first.clone(), second.clone()]).unwrap();
        assert_close("improvement", found, &case["improvement"]);
        let interval = Scores::interval_95(&[&first, &second], 150, 4, improvement).unwrap();
        assert_close("improvement, low", interval.0, &case["improvement_interval"][0]);
        assert_close("improvement, high", interval.1, &case["improvement_interval"][1]);
        let profile = statistics::performance_profile(&first, &numbers(&case["thresholds"]));
        for (ours, theirs) in profile.iter().zip(list(case, "profile")) {
            assert_close("profile", *ours, theirs);
        }
    }
}

#[test]
fn holms_correction_equals_statsmodels() {
    let holm = &fixture()["holm"];
    let corrected = statistics::holm(&numbers(&holm["p_values"]));
    for (ours, theirs) in corrected.iter().zip(holm["corrected"].as_array().unwrap()) {
        assert_close("holm", *ours, theirs);
    }
}

fn list<'a>(fixture: &'a Value, name: &str) -> &'a Vec<Value> {
    fixture[name].as_array().unwrap()
}

#[test]
fn mcnemars_tests_equal_statsmodels() {
    for case in list(&fixture(), "mcnemar") {
        let pairs =
            Discordant { wins: case["wins"].as_u64().unwrap(), losses: case["losses"].as_u64().unwrap() };
        assert_test("exact", statistics::mcnemar_exact(pairs).unwrap(), &case["exact"]);
        assert_test("corrected", statistics::mcnemar_corrected(pairs).unwrap(), &case["corrected"]);
    }
}

#[test]
fn the_paired_bootstrap_equals_numpy_percentiles_of_the_same_resamples() {
    for case in list(&fixture(), "bootstrap") {
        let strata: Vec<Vec<f64>> = list(case, "strata").iter().map(numbers).collect();
        let (resamples, seed) =
            (case["resamples"].as_u64().unwrap() as usize, case["seed"].as_u64().unwrap());
        let ours = statistics::paired_bootstrap(&strata, resamples, seed).unwrap();
        assert_close("mean", ours.mean, &case["mean"]);
        assert_close("low", ours.interval_95.0, &case["interval_95"][0]);
        assert_close("high", ours.interval_95.1, &case["interval_95"][1]);
        assert_close("p", ours.p_value, &case["p_value"]);
    }
}

#[test]
fn ranks_friedmans_test_and_the_critical_difference_equal_scipy() {
    for case in list(&fixture(), "rankings") {
        let name = case["name"].as_str().unwrap();
        let blocks: Vec<Vec<f64>> = list(case, "blocks").iter().map(numbers).collect();
        for (ours, theirs) in
            statistics::average_ranks(&blocks).unwrap().iter().zip(list(case, "average_ranks"))
        {
            assert_close(name, *ours, theirs);
        }
        let friedman = statistics::friedman(&blocks).unwrap();
        assert_close(name, friedman.statistic, &case["statistic"]);
        assert_close(name, friedman.p_value, &case["p_value"]);
        let critical = statistics::nemenyi_critical_difference(blocks[0].len(), blocks.len(), 0.05).unwrap();
        assert_close(name, critical, &case["critical_difference"]);
    }
}

#[test]
fn undefined_statistics_are_none() {
    assert_eq!(statistics::mean(&[]), None);
    assert_eq!(statistics::standard_deviation(&[1.0]), None);
    assert_eq!(statistics::t_interval(&[1.0], 0.95), None);
    assert_eq!(statistics::t_test(&[0.1, 0.1, 0.1]), None, "not a tiny p-value from rounding");
    assert_eq!(statistics::stratified_t_test(&[]), None);
    assert_eq!(statistics::crossed_t_test(&[vec![1.0, 2.0], vec![1.0]]), None);
    assert_eq!(statistics::wilcoxon_signed_rank(&[0.0]), None);
    assert_eq!(statistics::units_needed(0.0, 0.8, 0.05), None);
    assert!(statistics::holm(&[]).is_empty());
    assert_eq!(statistics::mcnemar_exact(Discordant::default()), None);
    assert_eq!(statistics::mcnemar_corrected(Discordant::default()), None);
    assert_eq!(statistics::paired_bootstrap(&[vec![1.0], vec![]], 10, 0), None);
    assert_eq!(statistics::average_ranks(&[vec![1.0, 2.0], vec![1.0]]), None);
    assert_eq!(statistics::friedman(&[vec![1.0; 3], vec![2.0; 3]]), None);
    assert_eq!(statistics::nemenyi_critical_difference(1, 5, 0.05), None);
}
