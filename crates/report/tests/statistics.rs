//! Our statistics against scipy's and statsmodels' (tools/statistics_fixtures.py).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use report::statistics::{self, PairedTest};
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
fn the_spread_of_a_sample_equals_scipys() {
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
fn the_paired_tests_equal_scipys_with_and_without_ties() {
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

#[test]
fn what_the_data_cannot_give_is_none() {
    assert_eq!(statistics::mean(&[]), None);
    assert_eq!(statistics::standard_deviation(&[1.0]), None);
    assert_eq!(statistics::t_interval(&[1.0], 0.95), None);
    assert_eq!(statistics::paired_t_test(&[2.0, 3.0], &[1.0, 2.0]), None);
    assert_eq!(statistics::wilcoxon_signed_rank(&[1.0], &[1.0]), None);
    assert!(statistics::holm(&[]).is_empty());
}
