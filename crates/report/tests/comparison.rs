//! The numbers of a comparison, against numbers worked out by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{METHODS, record, records, stored};
use proptest::prelude::*;
use report::Comparison;
use report::comparison::comparisons;
use report::comparison::difference::Verdict;
use report::comparison::row::{Average, Outcome, Row};

fn comparison() -> Comparison {
    comparisons(records()).unwrap().remove(0)
}

fn row<'a>(comparison: &'a Comparison, method: &str) -> &'a Row {
    comparison.rows.iter().find(|row| row.method == method).unwrap()
}

fn assert_average(average: Average, mean: f64, deviation: f64, error: f64) {
    let spread = average.spread.unwrap();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(close(spread.mean, mean), "{spread:?} is not around {mean}");
    assert!(close(spread.standard_deviation.unwrap(), deviation), "{spread:?} has not the sd {deviation}");
    assert!(close(spread.standard_error.unwrap(), error), "{spread:?} has not the SE {error}");
}

#[test]
fn methods_sets_groups_and_seeds_come_in_their_order() {
    let comparison = comparison();
    let labels: Vec<&str> = comparison.rows.iter().map(|row| row.label.as_str()).collect();
    assert_eq!(labels, ["linear", "FFT", "LoRA (r 4)", "SAN (authors)"]);
    let sets: Vec<&str> = comparison.datasets.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(sets, ["mini/a", "mini/b", "mini/c"]);
    assert_eq!(comparison.groups[0].datasets, [0, 1]);
    assert_eq!(comparison.seeds, [0, 1]);
}

#[test]
fn both_averages_are_formed_for_each_seed_and_spread_over_seeds() {
    let comparison = comparison();
    let lora = row(&comparison, "lora");
    // Seeds: (70 + 80 + 43) / 3 = 193/3 and (74 + 80 + 44) / 3 = 66, which differ by 5/3.
    assert_average(lora.mean_of_sets, 391.0 / 6.0, 5.0 / 3.0 / 2f64.sqrt(), 5.0 / 6.0);
    // Groups by seed: 75, 43 -> 59 and 77, 44 -> 60.5.
    assert_average(lora.mean_of_groups, 59.75, 1.5 / 2f64.sqrt(), 0.75);
    assert_average(lora.group_means[0], 76.0, 2f64.sqrt(), 1.0);
    assert!(lora.mean_of_sets.is_complete() && lora.mean_of_groups.is_complete());
}

#[test]
fn diverged_and_missing_cells_stay_in_the_row_and_mark_its_averages() {
    let comparison = comparison();
    let (san, fft) = (row(&comparison, "san"), row(&comparison, "fft"));
    assert_eq!(san.cells[2].outcomes, [Outcome::Accuracy(40.0), Outcome::Diverged]);
    assert_eq!(fft.cells[1].outcomes, [Outcome::Missing; 2]);
    // SAN's average is over `a` and `b` alone: 75.5 and 77.
    assert_average(san.mean_of_sets, 76.25, 1.5 / 2f64.sqrt(), 0.75);
    assert_eq!((san.mean_of_sets.sets, san.mean_of_sets.expected_sets), (2, 3));
    assert!(!san.mean_of_sets.is_complete() && !fft.mean_of_groups.is_complete());
    // No set of the structured group has both seeds, so there is no mean of both groups.
    assert_eq!((san.group_means[1].spread, san.mean_of_groups.spread), (None, None));
    assert!(san.group_means[0].is_complete());
}

#[test]
fn a_method_with_fewer_seeds_than_others_has_no_complete_average() {
    let mut records = records();
    records.retain(|stored| stored.record.method.name != "lora" || stored.record.seed == 0);
    let comparison = comparisons(records).unwrap().remove(0);
    let average = row(&comparison, "lora").mean_of_sets;
    assert_eq!(average.spread.unwrap().count, 1);
    assert!(!average.is_complete());
}

#[test]
fn sizes_and_costs_keep_the_head_apart_and_leave_out_diverged_cells() {
    let comparison = comparison();
    let san = row(&comparison, "san");
    assert_eq!(
        (san.parameters.trainable, san.parameters.head, san.parameters.backbone),
        (1920.0, 660.0, 100_000)
    );
    assert!((san.parameters.share - 1.92).abs() < 1e-12);
    // Seed 0 takes 2 s, seed 1 takes 3 s; the diverged cell is of seed 1.
    assert!((san.cost.train_seconds.unwrap() - 12.0 / 5.0).abs() < 1e-12);
    assert_eq!(san.cost.peak_memory, Some(102 << 20));
}

#[test]
fn differences_are_paired_by_set_and_seed() {
    let comparison = comparison();
    let sentences: Vec<String> = comparison.differences.iter().map(ToString::to_string).collect();
    let beats: Vec<bool> =
        comparison.differences.iter().map(|difference| difference.verdict == Verdict::Beats).collect();
    // SAN - LoRA: 2, -1, -1, 1, -3: mean -0.4, sd 1.949, SE 0.872; p by scipy 0.67037.
    assert_eq!(sentences[4], "SAN (authors) does not beat LoRA (r 4): -0.4 ± 0.9 (5 pairs, p = 0.670)");
    // LoRA - linear: 20, 22, 20, 18, 23, 22; the p-value is far below any correction.
    assert!(sentences[1].starts_with("LoRA (r 4) - linear: +20.8 ± 0.7 (6 pairs, p < 0.001)"));
    assert_eq!(beats, [true, true, true, false, false]);
    assert_eq!(comparison.differences.iter().filter(|d| d.method == "linear").count(), 0);
}

#[test]
fn a_gain_within_the_noise_does_not_beat_the_baseline() {
    let mut records = records();
    for stored in records.iter_mut().filter(|stored| stored.record.method.name == "san") {
        stored.record.metrics.accuracy = stored.record.metrics.accuracy.map(|accuracy| accuracy + 0.01);
    }
    // SAN - LoRA is now 3, 0, 0, 2, -2.
    let comparison = comparisons(records).unwrap().remove(0);
    let sentence = comparison.differences[4].to_string();
    assert!(sentence.starts_with("SAN (authors) does not beat LoRA (r 4): +0.6 ± 0.9"), "{sentence}");
}

#[test]
fn p_values_are_corrected_for_all_differences_of_the_table() {
    let comparison = comparison();
    let raw: Vec<f64> =
        comparison.differences.iter().map(|difference| difference.t_test.unwrap().p_value).collect();
    let largest = raw.iter().copied().fold(0.0, f64::max);
    let smallest = raw.iter().copied().fold(1.0, f64::min);
    for (difference, raw) in comparison.differences.iter().zip(&raw) {
        let corrected = difference.corrected_p.unwrap();
        if *raw == smallest {
            assert!((corrected - 5.0 * raw).abs() < 1e-12);
        }
        if *raw == largest {
            assert!((corrected - raw).abs() < 1e-12);
        }
    }
}

#[test]
fn two_records_of_one_cell_are_refused_with_what_differs() {
    let mut records = records();
    let mut again = records[0].clone();
    again.path = "elsewhere/record.json".into();
    again.record.protocol["epochs"] = 20.into();
    records.push(again);
    let message = comparisons(records).unwrap_err().to_string();
    for part in ["linear, mini/a, seed 0", "elsewhere/record.json", "differ in epochs"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn backbones_and_profiles_are_never_mixed() {
    let mut records = records();
    let mut other = records.clone();
    for stored in &mut other {
        stored.record.backbone.name = "vit_base".into();
    }
    let mut paper = records.clone();
    for stored in &mut paper {
        stored.record.profile = "paper".into();
    }
    records.extend(other);
    records.extend(paper);
    let found: Vec<String> = comparisons(records).unwrap().iter().map(Comparison::name).collect();
    assert_eq!(found, ["vtab-embedded-vit_base", "vtab-embedded-vit_micro", "vtab-paper-vit_micro"]);
}

#[test]
fn sets_that_no_method_has_and_other_weights_are_warned_of() {
    let mut records = records();
    records.retain(|stored| stored.record.dataset.name != "mini/b");
    records[0].record.backbone.checksum = "other".into();
    let warnings = comparisons(records).unwrap().remove(0).origin.warnings;
    assert!(warnings[0].contains("weights are not the same"));
    assert!(warnings[1].contains("no. 2"));
}

#[test]
fn published_rows_are_shown_for_the_papers_profile_alone() {
    let sets = [("cifar100", "natural"), ("caltech101", "natural")];
    let of_profile = |profile: &str| {
        let mut record = record(METHODS[0], 0, &sets, 0, Some(60.0));
        record.profile = profile.into();
        record.backbone.name = "vit_base_patch16_224.augreg_in21k".into();
        let comparison = comparisons(vec![stored(record)]).unwrap().remove(0);
        report::published::table(&comparison).unwrap()
    };
    assert_eq!(of_profile("embedded"), None);
    let table = of_profile("paper").unwrap();
    let full = table.rows.iter().find(|row| row.label == "Full" && row.cells[0].text != "-").unwrap();
    assert_eq!(full.cells[0].text, "68.9");
    assert!(table.caption.contains("not measured here"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_order_of_the_records_does_not_matter(shuffled in Just(records()).prop_shuffle()) {
        let ours = comparisons(shuffled).unwrap().remove(0);
        prop_assert_eq!(ours.table(), comparison().table());
        prop_assert_eq!(
            serde_json::to_string(&ours).unwrap(),
            serde_json::to_string(&comparison()).unwrap()
        );
    }
}
