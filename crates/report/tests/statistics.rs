//! Our statistics compared with scipy's and statsmodels' (tools/statistics_fixtures.py).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use report::statistics::{self, Discordant, PairedTest};
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
fn the_paired_tests_equal_scipy_with_and_without_ties() {
    for pair in fixture()["pairs"].as_array().unwrap() {
        let (first, second) = (numbers(&pair["first"]), numbers(&pair["second"]));
        let name = pair["name"].as_str().unwrap();
        assert_test(name, statistics::paired_t_test(&first, &second).unwrap(), &pair["t"]);
        assert_test(name, statistics::wilcoxon_signed_rank(&first, &second).unwrap(), &pair["wilcoxon"]);
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
    assert_eq!(statistics::paired_t_test(&[2.0, 3.0], &[1.0, 2.0]), None);
    assert_eq!(statistics::wilcoxon_signed_rank(&[1.0], &[1.0]), None);
    assert!(statistics::holm(&[]).is_empty());
    assert_eq!(statistics::mcnemar_exact(Discordant::default()), None);
    assert_eq!(statistics::mcnemar_corrected(Discordant::default()), None);
    assert_eq!(statistics::paired_bootstrap(&[vec![1.0], vec![]], 10, 0), None);
    assert_eq!(statistics::average_ranks(&[vec![1.0, 2.0], vec![1.0]]), None);
    assert_eq!(statistics::friedman(&[vec![1.0; 3], vec![2.0; 3]]), None);
    assert_eq!(statistics::nemenyi_critical_difference(1, 5, 0.05), None);
}
