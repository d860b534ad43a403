//! The numbers of a comparison, checked against values computed by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{METHODS, record, records, stored};
use proptest::prelude::*;
use report::Comparison;
use report::comparison::comparisons;
use report::comparison::difference::Verdict;
use report::comparison::row::{Average, Outcome, Row};

fn comparison() -> Comparison {
    comparisons(records(), None).unwrap().remove(0)
}

fn row<'a>(comparison: &'a Comparison, method: &str) -> &'a Row {
    comparison.rows.iter().find(|row| row.method == method).unwrap()
}

fn assert_average(average: Average, mean: f64, deviation: f64, error: f64) {
    let spread = average.spread.unwrap();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(close(spread.mean, mean), "{spread:?} does not have the mean {mean}");
    assert!(
        close(spread.standard_deviation.unwrap(), deviation),
        "{spread:?} does not have the sd {deviation}"
    );
    assert!(close(spread.standard_error.unwrap(), error), "{spread:?} does not have the SE {error}");
}

#[test]
fn methods_data_sets_groups_and_seeds_are_in_order() {
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
fn diverged_and_missing_cells_stay_in_the_row_and_suppress_its_averages() {
    let comparison = comparison();
    let (san, fft) = (row(&comparison, "san"), row(&comparison, "fft"));
    assert_eq!(san.cells[2].outcomes, [Outcome::Accuracy(40.0), Outcome::Diverged]);
    assert_eq!(fft.cells[1].outcomes, [Outcome::Missing; 2]);
    // Over only `a` and `b` SAN's average would be 76.25, above LoRA's over three sets.
    assert_eq!((san.mean_of_sets.spread, fft.mean_of_sets.spread), (None, None));
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
    let comparison = comparisons(records, None).unwrap().remove(0);
    let average = row(&comparison, "lora").mean_of_sets;
    assert_eq!(average.spread.unwrap().count, 1);
    assert!(!average.is_complete());
}

#[test]
fn sizes_and_costs_separate_the_head_and_exclude_diverged_runs() {
    let comparison = comparison();
    let san = row(&comparison, "san");
    assert_eq!(
        (san.parameters.trainable, san.parameters.head, san.parameters.backbone),
        (1920.0, 660.0, 100_000)
    );
    assert!((san.parameters.share - 1.92).abs() < 1e-12);
    // Seed 0 takes 2 s, seed 1 takes 3 s; the diverged run has seed 1.
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
    assert_eq!(
        sentences[4],
        "SAN (authors) is not shown to beat LoRA (r 4): -0.4 ± 0.9 (5 pairs, p = 0.670)"
    );
    // LoRA - linear: 20, 22, 20, 18, 23, 22; the p-value stays significant after any correction.
    assert!(sentences[1].starts_with("LoRA (r 4) - linear: +20.8 ± 0.7 (6 pairs, p < 0.001)"));
    assert_eq!(beats, [true, true, true, false, false]);
    assert_eq!(comparison.differences.iter().filter(|d| d.method == "linear").count(), 0);
}

#[test]
fn a_gain_within_the_noise_is_not_reported_as_beating_the_baseline() {
    let mut records = records();
    for stored in records.iter_mut().filter(|stored| stored.record.method.name == "san") {
        stored.record.metrics.accuracy = stored.record.metrics.accuracy.map(|accuracy| accuracy + 0.01);
    }
    // SAN - LoRA is now 3, 0, 0, 2, -2.
    let comparison = comparisons(records, None).unwrap().remove(0);
    let sentence = comparison.differences[4].to_string();
    assert!(sentence.starts_with("SAN (authors) is not shown to beat LoRA (r 4): +0.6 ± 0.9"), "{sentence}");
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
fn two_records_of_the_same_run_are_rejected_with_their_differences() {
    let mut records = records();
    let mut again = records[0].clone();
    again.path = "elsewhere/record.json".into();
    again.record.protocol["epochs"] = 20.into();
    records.push(again);
    let message = comparisons(records, None).unwrap_err().to_string();
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
    let found: Vec<String> = comparisons(records, None).unwrap().iter().map(Comparison::name).collect();
    assert_eq!(found, ["vtab-embedded-vit_base", "vtab-embedded-vit_micro", "vtab-paper-vit_micro"]);
}

#[test]
fn missing_data_sets_and_differing_weights_cause_warnings() {
    let mut records = records();
    records.retain(|stored| stored.record.dataset.name != "mini/b");
    records[0].record.backbone.checksum = "other".into();
    let warnings = comparisons(records, None).unwrap().remove(0).origin.warnings;
    assert!(warnings[0].contains("weights of the backbone differ"));
    assert!(warnings[1].contains("no. 2"));
}

#[test]
fn published_rows_are_shown_only_for_the_paper_profile() {
    let sets = [("cifar100", "natural"), ("caltech101", "natural")];
    let of_profile = |profile: &str| {
        let mut record = record(METHODS[0], 0, &sets, 0, Some(60.0));
        record.profile = profile.into();
        record.backbone.name = "vit_base_patch16_224.augreg_in21k".into();
        let comparison = comparisons(vec![stored(record)], None).unwrap().remove(0);
        report::table::published::table(&comparison).unwrap()
    };
    assert_eq!(of_profile("embedded"), None);
    let table = of_profile("paper").unwrap();
    let full = table.rows.iter().find(|row| row.label == "Full" && row.cells[0].text != "-").unwrap();
    assert_eq!(full.cells[0].text, "68.9");
    assert!(table.caption.contains("not measured here"));
}

#[test]
fn only_complete_methods_are_ranked_and_compared_with_the_best() {
    let comparison = comparison();
    // LoRA beats linear on all three sets.
    let ranking = comparison.ranking.as_ref().unwrap();
    assert_eq!(
        (ranking.methods.as_slice(), ranking.sets),
        (&["linear".to_owned(), "LoRA (r 4)".to_owned()][..], 3)
    );
    assert_eq!(ranking.average_ranks, [2.0, 1.0]);
    assert!(comparison.against_best.iter().all(|difference| difference.baseline == "LoRA (r 4)"));
    // Where SAN is complete, LoRA's gap to it is within the noise and linear's is not: only LoRA is marked with the dagger.
    let mut records = records();
    records.retain(|stored| stored.record.dataset.name != "mini/c");
    let table = comparisons(records, None).unwrap().remove(0).table();
    let mean = table.columns.iter().position(|column| column.header == "mean of 2 sets").unwrap();
    let marked: Vec<bool> = table.rows.iter().map(|row| row.cells[mean].text.ends_with('†')).collect();
    assert_eq!((marked[0], marked[2], marked[3]), (false, true, false));
}

#[test]
fn the_optimism_of_selecting_on_the_test_split_has_its_own_column() {
    let header = |table: &report::Table| table.columns.iter().any(|column| column.header == "optimism");
    assert!(!header(&comparison().table()));
    let mut records = records();
    for stored in records.iter_mut().filter(|stored| stored.record.method.name == "lora") {
        stored.record.metrics.test_selected = stored.record.metrics.accuracy.map(|accuracy| accuracy + 0.015);
    }
    let comparison = comparisons(records, None).unwrap().remove(0);
    let selected = row(&comparison, "lora").test_selected.unwrap();
    assert!((selected.optimism - 1.5).abs() < 1e-9 && selected.cells == 6);
    assert!((selected.accuracy - 391.0 / 6.0 - 1.5).abs() < 1e-9);
    assert!(header(&comparison.table()));
}

#[test]
fn the_tuning_budget_is_shown_and_an_unequal_one_causes_a_warning() {
    let mut records = records();
    let budget_notes = |records: Vec<report::load::Stored>| {
        let notes = comparisons(records, None).unwrap().remove(0).table().notes;
        notes.into_iter().filter(|note| note.contains("tuned") || note.contains("Tuning")).collect::<Vec<_>>()
    };
    for stored in &mut records {
        stored.record.protocol["chosen_from"] = serde_json::json!([0.001, 0.01, 0.1]);
    }
    assert!(
        budget_notes(records.clone())[0].contains("3 settings tried on val for each set, the same number")
    );
    // A search over other fields than the rate has no list of rates.
    records[0].record.protocol["chosen_from"] = serde_json::json!([]);
    records[0].record.protocol["tuning_budget"] = 3.into();
    assert!(budget_notes(records.clone())[0].contains("the same number"));
    records[0].record.protocol["tuning_budget"] = 1.into();
    assert!(budget_notes(records)[0].starts_with("Warning"));
}

#[test]
fn a_record_of_several_data_sets_becomes_one_row_per_set() {
    let whole = {
        let mut whole = record(METHODS[2], 0, &common::SETS, 0, Some(70.0));
        let evaluation = |set: usize, metric: &str, accuracy: f64| report::record::Evaluation {
            metric: metric.into(),
            dataset: record(METHODS[2], set, &common::SETS, 0, None).dataset,
            accuracy,
            no_answer: Some(0.125),
            further: [("question_only_prior".to_owned(), 0.7)].into(),
        };
        whole.dataset.name = "mini/all".into();
        whole.metrics.evaluations = vec![evaluation(0, "F1", 0.6), evaluation(2, "exact match", 0.8)];
        whole
    };
    let rows = report::load::Stored::rows("runs/x/record.json".into(), whole);
    let comparison = comparisons(rows, None).unwrap().remove(0);
    let sets: Vec<&str> = comparison.datasets.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(sets, ["mini/a", "mini/c"]);
    assert_eq!(comparison.rows[0].cells[1].outcomes, [Outcome::Accuracy(80.0)]);
    assert_eq!(comparison.rows[0].no_answer, Some(12.5));
    let table = comparison.table();
    assert!(table.caption.contains(": score in %"), "{}", table.caption);
    let notes = table.notes.join(" ");
    assert!(notes.contains("Scores: F1 (mini/a); exact match (mini/c)."), "{notes}");
    assert!(notes.contains("without the image): mini/a 70.0, mini/c 70.0; mean 70.0."), "{notes}");
    let above = format!("exceeds it: {} 1.", comparison.rows[0].label);
    assert!(notes.contains(&above), "{notes}");
}

/// Writes predictions that are correct on the items in `right`.
fn predictions(record: &report::Record, folder: &std::path::Path, right: std::ops::Range<usize>) {
    let path = common::write(folder, record);
    let rows = (0..20).map(|item| format!("{item},1,{}\n", usize::from(right.contains(&item))));
    let text = std::iter::once("index,label,predicted\n".to_owned()).chain(rows).collect::<String>();
    std::fs::write(path.with_file_name("predictions.csv"), text).unwrap();
}

#[test]
fn individual_predictions_are_compared_over_the_data_sets_of_both_methods() {
    let folder = tempfile::tempdir().unwrap();
    for set in 0..2 {
        predictions(&record(METHODS[0], set, &common::SETS, 0, Some(50.0)), folder.path(), 0..10);
        predictions(&record(METHODS[3], set, &common::SETS, 0, Some(60.0)), folder.path(), 4..16);
    }
    let comparison = comparisons(report::load::read_records(folder.path()).unwrap(), None).unwrap().remove(0);
    let items = comparison.differences[0].items.unwrap();
    // On each set only SAN is correct on items 10 to 15, only linear on 0 to 3.
    assert_eq!((items.discordant.wins, items.discordant.losses, items.sets, items.items), (12, 8, 2, 40));
    // scipy.stats.binomtest(8, 20).pvalue
    assert!((items.mcnemar.unwrap().p_value - 0.5034446716308594).abs() < 1e-9);
    let bootstrap = items.bootstrap.unwrap();
    assert!((bootstrap.mean - 10.0).abs() < 1e-9);
    assert!(bootstrap.interval_95.0 < 0.0 && bootstrap.interval_95.1 > 20.0);
}

#[test]
fn predictions_inconsistent_with_the_recorded_score_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    predictions(&record(METHODS[0], 0, &common::SETS, 0, Some(50.0)), folder.path(), 0..11);
    let read = report::load::read_records(folder.path()).unwrap();
    let message = comparisons(read, None).unwrap_err().to_string();
    assert!(message.contains("an accuracy of 0.5500, but the record of the run has 0.5000"), "{message}");
}

#[test]
fn predictions_out_of_order_are_rejected_with_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let record = record(METHODS[0], 0, &common::SETS, 0, Some(50.0));
    let path = common::write(folder.path(), &record).with_file_name("predictions.csv");
    std::fs::write(&path, "index,label,predicted\n0,1,1\n2,1,1\n").unwrap();
    let read = report::load::read_records(folder.path()).unwrap();
    let message = comparisons(read, None).unwrap_err().to_string();
    assert!(message.contains("predictions.csv") && message.contains("row 1 has the index 2"), "{message}");
}

#[test]
fn ours_minus_published_has_a_row_for_each_source() {
    let mut record = record(METHODS[1], 0, &[("cifar100", "natural")], 0, Some(70.0));
    record.profile = "paper".into();
    record.backbone.name = "vit_base_patch16_224.augreg_in21k".into();
    record.method.published_as = vec!["Full".into()];
    let comparison = comparisons(vec![stored(record)], None).unwrap().remove(0);
    let table = report::table::published::differences(&comparison).unwrap().unwrap();
    let row = table.rows.iter().find(|row| row.cells[0].text != "-").unwrap();
    // V-PETL-Bench prints 68.9 for full fine-tuning.
    assert_eq!((row.label.as_str(), row.cells[0].text.as_str()), ("FFT - Full", "+1.1"));
    assert!(row.cells.iter().any(|cell| cell.text == "V-PETL-Bench README"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_order_of_the_records_does_not_matter(shuffled in Just(records()).prop_shuffle()) {
        let ours = comparisons(shuffled, None).unwrap().remove(0);
        prop_assert_eq!(ours.table(), comparison().table());
        prop_assert_eq!(
            serde_json::to_string(&ours).unwrap(),
            serde_json::to_string(&comparison()).unwrap()
        );
    }
}
