//! The numbers of a comparison, checked against values computed by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{METHODS, record, records, stored};
use proptest::prelude::*;
use report::Comparison;
use report::comparison::comparisons;
use report::comparison::difference::Verdict;
use report::comparison::estimate::Seeds;
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
fn differences_are_paired_by_set_and_seed_and_tested_by_set_and_by_training() {
    let comparison = comparison();
    let sentences: Vec<String> = comparison.differences.iter().map(ToString::to_string).collect();
    // SAN - LoRA: 2, -1 on a, -1, 1 on b, -3 on c: by set 0.5, 0 and -3, p by scipy 0.52542; c has one training.
    assert_eq!(
        sentences[4],
        "SAN (authors) does not differ significantly from LoRA (r 4): -0.8 ± 1.1 points [-5.5, +3.9] (3 sets, \
         5 trainings; p = 0.525 by set)"
    );
    // LoRA - linear: 20, 22 on a, 20, 18 on b, 23, 22 on c; by scipy 0.0023596 and 0.00014653, five and four tests.
    let lora = &comparison.differences[1];
    assert!(sentences[1].starts_with("LoRA (r 4) beats linear: +20.8 ± 1.0 points [+16.5, +25.2]"));
    let tests = lora.estimate.unwrap().tests;
    assert!((tests.by_set.unwrap().p_value - 0.002_359_621_923).abs() < 1e-9);
    assert!((tests.by_training.unwrap().p_value - 0.000_146_535_467).abs() < 1e-9);
    let verdicts: Vec<Verdict> = comparison.differences.iter().map(|difference| difference.verdict).collect();
    assert_eq!((verdicts[1], verdicts[4]), (Verdict::Beats, Verdict::NotSignificant));
    // FFT - linear is significant by training alone, which does not suffice.
    let fft = &comparison.differences[0];
    assert!(fft.corrected.by_training.unwrap() < 0.05 && fft.corrected.by_set.unwrap() > 0.05);
    assert_eq!(fft.verdict, Verdict::NotSignificant);
    assert_eq!(comparison.differences.iter().filter(|d| d.method == "linear").count(), 0);
}

#[test]
fn a_gain_within_the_noise_is_not_reported_as_beating_the_baseline() {
    let mut records = records();
    for stored in records.iter_mut().filter(|stored| stored.record.method.name == "san") {
        stored.record.metrics.accuracy = stored.record.metrics.accuracy.map(|accuracy| accuracy + 0.02);
    }
    let comparison = comparisons(records, None).unwrap().remove(0);
    let sentence = comparison.differences[4].to_string();
    assert!(sentence.contains("does not differ significantly from LoRA (r 4): +1.2 ± 1.1"), "{sentence}");
}

/// The records of `records` as parts of runs that were evaluated on all sets.
fn shared_records() -> Vec<report::load::Stored> {
    let mut records = records();
    records.retain(|stored| ["linear", "lora"].contains(&stored.record.method.name.as_str()));
    records.iter_mut().for_each(|stored| stored.is_part = true);
    records
}

#[test]
fn the_seeds_are_the_trainings_where_one_model_is_trained_for_all_sets() {
    let comparison = comparisons(shared_records(), None).unwrap().remove(0);
    assert!(comparison.shared_trainings);
    let difference = &comparison.differences[0];
    let estimate = difference.estimate.unwrap();
    assert_eq!((estimate.sets, estimate.trainings), (3, 2));
    // By seed: 21 and 62/3, a standard error of 1/6.
    let by_training = estimate.tests.by_training.unwrap();
    assert!((by_training.standard_error - 1.0 / 6.0).abs() < 1e-9 && by_training.degrees_of_freedom == 1.0);
    // The variance of the test by set is that of the sets' means and that of the seeds'.
    let of_sets = report::statistics::t_test(&[21.0, 19.0, 22.5]).unwrap().standard_error;
    let by_set = estimate.tests.by_set.unwrap().standard_error;
    assert!((by_set.powi(2) - of_sets.powi(2) - 1.0 / 36.0).abs() < 1e-9);
    assert!(estimate.wilcoxon.is_none());
    // A single seed is a single training, whatever the number of sets.
    let mut one_seed = shared_records();
    one_seed.retain(|stored| stored.record.seed == 0);
    let comparison = comparisons(one_seed, None).unwrap().remove(0);
    assert_eq!(comparison.differences[0].verdict, Verdict::Untested);
}

#[test]
fn p_values_are_corrected_for_all_differences_of_the_table() {
    let comparison = comparison();
    let raw: Vec<f64> = comparison
        .differences
        .iter()
        .map(|difference| difference.estimate.unwrap().tests.by_set.unwrap().p_value)
        .collect();
    let largest = raw.iter().copied().fold(0.0, f64::max);
    let smallest = raw.iter().copied().fold(1.0, f64::min);
    for (difference, raw) in comparison.differences.iter().zip(&raw) {
        let corrected = difference.corrected.by_set.unwrap();
        if *raw == smallest {
            assert!((corrected - 5.0 * raw).abs() < 1e-12);
        }
        if *raw == largest {
            assert!((corrected - raw).abs() < 1e-12);
        }
    }
}

#[test]
fn the_numbers_of_sets_and_seeds_that_a_difference_would_need_are_told() {
    let comparison = comparison();
    // SAN - LoRA: -0.8333 with a standard deviation of 1.8930 over sets; 43 by statsmodels' TTestPower.
    let needed = comparison.differences[4].estimate.unwrap().needed;
    assert_eq!((needed.sets, needed.seeds), (Some(43), Seeds::Unknown));
    // LoRA - linear is large: two sets or one seed.
    let needed = comparison.differences[1].estimate.unwrap().needed;
    assert_eq!((needed.sets, needed.seeds), (Some(2), Seeds::Count(1)));
}

#[test]
fn aggregates_are_over_complete_methods_and_relative_to_the_best() {
    let comparison = comparison();
    let labels: Vec<&str> = comparison.aggregates.iter().map(|method| method.label.as_str()).collect();
    assert_eq!(labels, ["linear", "LoRA (r 4)"]);
    // LoRA: the middle four of 43, 44, 70, 74, 80, 80 (scipy cuts one of six on each side).
    let lora = &comparison.aggregates[1];
    assert!((lora.interquartile_mean.value - 67.0).abs() < 1e-9);
    // LoRA is the best on every set, so its gap is that of its seeds below their own mean: 70/72 and 43/43.5.
    let gap = 100.0 * (2.0 / 72.0 + 0.5 / 43.5) / 6.0;
    assert!((lora.optimality_gap.value - gap).abs() < 1e-9);
    assert!((comparison.aggregates[0].improvement.unwrap().value).abs() < 1e-9);
    assert!(lora.improvement.is_none());
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
    assert_eq!(comparison.best.unwrap().label, "LoRA (r 4)");
    // Where SAN is complete, its gap to LoRA is within the noise and linear's is not: only SAN is marked with the dagger.
    let mut records = records();
    let diverged = records.iter_mut().find(|stored| stored.record.metrics.accuracy.is_none()).unwrap();
    diverged.record.metrics.accuracy = Some(0.41);
    diverged.record.state = report::record::State::Finished;
    let table = comparisons(records, None).unwrap().remove(0).table();
    let mean = table.columns.iter().position(|column| column.header == "mean of 3 sets").unwrap();
    let marked: Vec<bool> = table.rows.iter().map(|row| row.cells[mean].text.ends_with('†')).collect();
    assert_eq!((marked[0], marked[2], marked[3]), (false, false, true));
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

/// A comparison of the profile `paper` with one run of one method on each set, all at 50 %.
fn paper(
    suite: &str,
    backbone: &str,
    sets: &[(&str, &str)],
    names: &[&str],
    config: serde_json::Value,
) -> Comparison {
    let records = (0..sets.len()).map(|set| {
        let mut record = record(METHODS[2], set, sets, 0, Some(50.0));
        (record.suite, record.profile) = (suite.into(), "paper".into());
        record.backbone.name = backbone.into();
        record.method.label = "ours".into();
        record.method.published_as = names.iter().map(ToString::to_string).collect();
        record.method.config = config.clone();
        // 0.84 % of the backbone, as DoRA of rank 32 on LLaMA-7B.
        record.parameters.trainable = 840;
        stored(record)
    });
    comparisons(records.collect(), None).unwrap().remove(0)
}

/// Row labels and the cells of a column of ours minus published.
fn against_published(comparison: &Comparison, header: &str) -> Vec<(String, String)> {
    let Some(table) = report::table::published::differences(comparison).unwrap() else { return Vec::new() };
    let column = table.columns.iter().position(|column| column.header == header).unwrap();
    table.rows.iter().map(|row| (row.label.clone(), row.cells[column].text.clone())).collect()
}

const COMMONSENSE: [(&str, &str); 8] = [
    ("boolq", "c"),
    ("piqa", "c"),
    ("siqa", "c"),
    ("hellaswag", "c"),
    ("winogrande", "c"),
    ("arc_easy", "c"),
    ("arc_challenge", "c"),
    ("openbookqa", "c"),
];

#[test]
fn published_rows_are_matched_by_backbone_method_and_rank_in_every_suite() {
    // V-PETL-Bench prints 68.9 for full fine-tuning on CIFAR-100.
    let vtab = paper(
        "vtab",
        "vit_base_patch16_224.augreg_in21k",
        &[("cifar100", "natural")],
        &["Full"],
        serde_json::json!({}),
    );
    assert!(against_published(&vtab, "cifar100").contains(&("ours - Full".into(), "-18.9".into())));
    let of_rank = |rank: u64| {
        let config = serde_json::json!({"rank": rank, "targets": "usual"});
        against_published(&paper("commonsense", "llama-7b", &COMMONSENSE, &["DoRA"], config), "boolq")
    };
    // The sources have DoRA on LLaMA-7B at the ranks 16 and 32 only (DoRA's table 1).
    let labels = |rows: Vec<(String, String)>| rows.into_iter().map(|(label, _)| label).collect::<Vec<_>>();
    assert_eq!(labels(of_rank(32)), ["ours - DoRA r32"]);
    assert!(labels(of_rank(8)).is_empty());
    let published = report::comparison::published::rows(&paper(
        "commonsense",
        "llama-7b",
        &COMMONSENSE,
        &["DoRA"],
        serde_json::json!({}),
    ))
    .unwrap();
    let names: Vec<&str> = published.iter().map(|row| row.method.as_str()).collect();
    assert!(names.contains(&"DoRA r32") && names.contains(&"Series"), "{names:?}");
    assert!(
        published.iter().any(|row| row.backbone == "ChatGPT"
            && row.mean_of_sets.is_some_and(|mean| (mean - 77.0125).abs() < 1e-9))
    );
    // gic_cifar100 is CIFAR-100 in the sources.
    let gic = paper(
        "gic",
        "vit_base_patch16_224.augreg_in21k",
        &[("gic_cifar100", "general")],
        &["SSF"],
        serde_json::json!({}),
    );
    assert_eq!(against_published(&gic, "gic_cifar100").len(), 1);
    let fgvc = paper(
        "fgvc",
        "vit_base_patch16_224.augreg_in21k",
        &[("cub_200_2011", "f"), ("stanford_cars", "f")],
        &["SSF"],
        serde_json::json!({}),
    );
    assert_eq!(labels(against_published(&fgvc, "stanford_cars")), ["ours - SSF"]);
    let vl = paper(
        "vl",
        "clip-vit-large-patch14-336+vicuna-7b-v1.5",
        &[("vqav2", "v"), ("gqa", "v")],
        &["SAN"],
        serde_json::json!({}),
    );
    assert_eq!(labels(against_published(&vl, "vqav2")), ["ours - SAN"]);
    assert_eq!(against_published(&vl, "mean of sets")[0].1, "-", "SAN's average is over seven sets");
}

#[test]
fn a_published_average_is_used_only_where_all_its_sets_are_there() {
    let rows = |sets: &[(&str, &str)]| {
        let comparison = paper("commonsense", "llama3-8b", sets, &["SAN"], serde_json::json!({}));
        let rows = report::comparison::published::rows(&comparison).unwrap();
        rows.into_iter().find(|row| row.method == "SAN").unwrap()
    };
    assert_eq!(rows(&COMMONSENSE).mean_of_sets, Some(85.5));
    assert_eq!(rows(&COMMONSENSE[..7]).mean_of_sets, None);
}

#[test]
fn a_filter_selects_records_by_fields_and_paths() {
    let records = records();
    let all: Vec<&report::Record> = records.iter().map(|stored| &stored.record).collect();
    let count = |text: &str| {
        let matches = report::Filter::parse(text).unwrap().matches(&all).unwrap();
        matches.into_iter().filter(|matches| *matches).count()
    };
    assert_eq!(count("method in (san, lora) and seed < 1"), 6);
    assert_eq!(count("method = SAN or method = 'linear'"), 12);
    assert_eq!(count("not (seed >= 1) and dataset != mini/a"), 7);
    assert_eq!(count("protocol.optimiser.learning_rate <= 0.002 and label = \"LoRA (r 4)\""), 4);
    assert_eq!(count("accuracy > 0.79"), 3);
    // A diverged run has no accuracy, and no comparison with it holds.
    assert_eq!(count("accuracy < 1") + count("accuracy >= 1"), records.len() - 1);
}

#[test]
fn a_filter_that_cannot_be_used_says_what_is_wrong() {
    let records = records();
    let all: Vec<&report::Record> = records.iter().map(|stored| &stored.record).collect();
    for (text, part) in [
        ("method san", "`san` is not an operator"),
        ("method in san", "needs a list"),
        ("(seed < 3", "closing parenthesis"),
        ("seed <", "a value is missing at the end"),
        ("seed < 3 method", "`method` is not expected"),
        ("label = 'x", "is not closed"),
        ("seed & 3", "`&` has no meaning"),
        ("", "a field is missing"),
    ] {
        let message = report::Filter::parse(text).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
    for nested in ["(".repeat(50_000), "not ".repeat(50_000)] {
        assert!(report::Filter::parse(&nested).unwrap_err().to_string().contains("nested deeper"));
    }
    let message = report::Filter::parse("methd = san").unwrap().matches(&all).unwrap_err().to_string();
    assert!(message.contains("no record has the field `methd`"), "{message}");
}

#[test]
fn columns_are_chosen_by_group_or_header() {
    let table = comparison().table();
    let names = |names: &[&str]| -> Vec<String> { names.iter().map(ToString::to_string).collect() };
    let chosen = table.clone().with_columns(&names(&["averages", "mini/c"])).unwrap();
    assert!(chosen.columns.iter().all(|column| column.group == "averages" || column.header == "mini/c"));
    assert!(chosen.rows.iter().all(|row| row.cells.len() == chosen.columns.len()));
    assert!(chosen.rows[2].cells[0].text.starts_with("43.5"));
    let message = table.with_columns(&names(&["average"])).unwrap_err().to_string();
    assert!(
        message.contains("`average`") && message.contains("natural, structured, averages, cost"),
        "{message}"
    );
}

#[test]
fn backbones_are_beside_each_other_in_one_table() {
    let mut records = records();
    let mut other = records.clone();
    other.retain(|stored| stored.record.method.name == "lora");
    for stored in &mut other {
        stored.record.backbone.name = "swin_micro".into();
    }
    records.extend(other);
    let comparisons = comparisons(records, None).unwrap();
    let table = report::over_backbones(&comparisons.iter().collect::<Vec<_>>()).unwrap();
    let lora = table.rows.iter().find(|row| row.label == "LoRA (r 4)").unwrap();
    let linear = table.rows.iter().find(|row| row.label == "linear").unwrap();
    assert_eq!((lora.cells[0].text.as_str(), lora.cells[3].text.as_str()), ("65.2 ± 1.2", "65.2 ± 1.2"));
    assert_eq!(linear.cells[0].text, "-");
    assert_eq!(report::over_backbones(&[&comparisons[0]]), None);
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
