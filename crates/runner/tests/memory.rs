//! What fits into a device's memory and how: a plan says it, a sweep leaves out what cannot fit, and a group that runs out of
//! memory is tried again with smaller micro-batches. The GPU and its memory are pretended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Bench, ROWS, SYNTHETIC, bench_on, refusal, row};
use serde_json::Value;

const RUN_FAILED: i32 = 10;

/// A GPU of which 1.1 GB are not for tensors.
const SMALL_GPU: [(&str, &str); 2] = [("SAN_PRETENDED_GPUS", "1"), ("SAN_PRETENDED_GPU_MEMORY", "1.2GB")];

/// Two methods, of which full fine-tuning needs three times the memory.
fn bench() -> Bench {
    let text = SYNTHETIC
        .replace("vit_micro", "vit_tiny_patch16_224.augreg_in21k@random")
        .replace("learning_rate: [1.0e-3, 1.0e-2]", "learning_rate: 1.0e-3")
        .replace("{method: linear,", "{method: fft,");
    Bench::new(&text)
}

fn records(bench: &Bench) -> Vec<Value> {
    let read = |run: std::path::PathBuf| {
        serde_json::from_slice(&std::fs::read(run.join("record.json")).unwrap()).unwrap()
    };
    bench.runs().into_iter().map(read).collect()
}

#[test]
fn a_plan_says_what_each_method_needs_and_what_does_not_fit() {
    let bench = bench();
    let text = |variables: &[(&str, &str)]| {
        let plan = bench.run_with(&["plan", "vtab.yaml"], variables);
        assert!(plan.status.success(), "{}", refusal(&plan, 0));
        String::from_utf8(plan.stdout).unwrap()
    };
    let row = |text: &str, method: &str| {
        let (_, table) = text.split_once("memory for").unwrap();
        table.lines().find(|line| line.trim_start().starts_with(method)).unwrap().to_owned()
    };
    let fits = text(&[]);
    assert!(row(&fits, "FFT").contains(" MB (16)") && row(&fits, "SAN").contains(" MB (16)"), "{fits}");
    assert!(!fits.contains("does not fit"), "{fits}");
    let small = text(&SMALL_GPU);
    assert!(row(&small, "FFT").contains("does not fit: 1"), "{small}");
    assert!(row(&small, "SAN").contains(" runs x 16)"), "{small}");
    assert!(
        small.contains("a GPU has 1.2 GB, 119 MB of it for tensors")
            && small.contains("2 of 4 runs do not fit"),
        "{small}"
    );
}

#[test]
fn a_sweep_leaves_out_what_cannot_fit_and_its_table_says_so() {
    let bench = bench();
    let output = bench.run_with(&["run", "vtab.yaml"], &SMALL_GPU);
    let text = refusal(&output, RUN_FAILED);
    assert_eq!(bench.runs().len(), 2, "{text}");
    let line = "san: FFT on vit_tiny_patch16_224.augreg_in21k@random: it does not fit: it needs 1";
    assert_eq!(text.matches(line).count(), 1, "{text}");
    let table = bench.run(&["report", "vtab"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("does not fit") && table.contains("FFT was left out: it does not fit"), "{table}");
    let status = bench.run(&["status", "vtab.yaml"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("failed: ") && status.contains("it does not fit"), "{status}");
    // Where there is room, the rest is run and nothing is left out any more.
    refusal(&bench.run(&["run", "vtab.yaml", "--device", "cpu"]), 0);
    assert_eq!(bench.runs().len(), 4);
    let table = bench.run(&["report", "vtab"]);
    assert!(!String::from_utf8_lossy(&table.stdout).contains("does not fit"));
}

fn language_bench() -> Bench {
    let experiment = ROWS.replace("BACKBONE", "llama_micro");
    let rows: Vec<Value> = (0..10).map(|index| row(&format!("is {index} a number"), "true")).collect();
    bench_on(&experiment, &rows, &rows[..4])
}

#[test]
fn a_group_that_is_out_of_memory_is_tried_once_more_with_half_a_micro_batch() {
    let bench = language_bench();
    let output = bench.run_with(&["run", "vtab.yaml"], &[("SAN_PRETENDED_OUT_OF_MEMORY", "2")]);
    let text = refusal(&output, 0);
    assert!(text.contains("it is tried once more from its checkpoint") && text.contains("2 of 4"), "{text}");
    let split = records(&bench);
    assert_eq!(split[0]["cost"]["micro_batch_size"], 2);
    let whole = language_bench();
    refusal(&whole.run(&["run", "vtab.yaml"]), 0);
    let record = &records(&whole)[0];
    assert!(record["cost"].get("micro_batch_size").is_none(), "{record}");
    assert_eq!(record["run"], split[0]["run"], "the run is the same");
    let losses = |record: &Value| record["metrics"]["loss_history"][0].as_f64().unwrap();
    assert!((losses(record) - losses(&split[0])).abs() < 1e-4);
    // Half of it is not enough either.
    let bench = language_bench();
    let output = bench.run_with(&["run", "vtab.yaml"], &[("SAN_PRETENDED_OUT_OF_MEMORY", "1")]);
    let text = refusal(&output, 1);
    assert_eq!(text.matches("tried once more").count(), 1, "{text}");
    assert!(text.contains("out of memory"), "{text}");
}
