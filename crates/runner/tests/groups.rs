//! Runs that are trained together: they compute what they compute alone, their groups follow from the plan, and a group
//! that is interrupted or has a diverged run leaves the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use common::{Bench, ROWS, SYNTHETIC, adapters, bench_on, done, is_checkpoint, row};
use serde_json::{Value, json};

/// Every method that trains something; one of them at two rates.
const METHODS: &str = "
      - {method: linear, learning_rate: 1.0e-2}
      - {method: fft, learning_rate: 3.0e-4}
      - {method: bitfit, learning_rate: 1.0e-3}
      - {method: norm, learning_rate: 1.0e-3}
      - {method: adapter, learning_rate: 1.0e-3}
      - {method: adaptformer, learning_rate: 1.0e-3}
      - {method: vpt, learning_rate: 1.0e-3}
      - {method: lora, learning_rate: 1.0e-3, options: {dropout: 0.1}}
      - {method: dora, learning_rate: 1.0e-3}
      - {method: vera, learning_rate: 1.0e-3}
      - {method: ia3, learning_rate: 1.0e-3}
      - {method: ssf, learning_rate: 1.0e-3}
      - {method: san_ssf, learning_rate: 1.0e-3}
      - {method: san_lora, learning_rate: 1.0e-3}
      - {method: san_dora, learning_rate: 1.0e-3}
      - {method: san, learning_rate: [1.0e-3, 2.0e-3]}
";

/// Fifty steps of every method, with dropout, stochastic depth and augmentation.
fn every_method() -> String {
    let methods = SYNTHETIC.find("      - {method: linear").unwrap()..SYNTHETIC.find("    seeds").unwrap();
    let mut text = SYNTHETIC.to_owned();
    text.replace_range(methods, METHODS.trim_start_matches('\n'));
    text.replace("train: 24", "train: 60")
        .replace("epochs: 2\n", "epochs: 10\n      weight_decay: 0.05\n      gradient_clipping: 0.5\n")
        .replace("warmup_epochs: 1", "warmup_epochs: 1\n        drop_path: 0.1\n        augmentation: {}")
}

/// The records of a store by run, and the losses of each step.
fn records(bench: &Bench) -> BTreeMap<String, (Value, Vec<f64>)> {
    let read = |run: &std::path::PathBuf| {
        let record: Value = serde_json::from_slice(&std::fs::read(run.join("record.json")).unwrap()).unwrap();
        let steps = std::fs::read_to_string(run.join("steps.jsonl")).unwrap();
        let loss = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap();
        (record["run"].as_str().unwrap().to_owned(), (record.clone(), steps.lines().map(loss).collect()))
    };
    bench.runs().iter().map(read).collect()
}

/// Checks that all runs of two stores have the same losses; returns the sizes of the groups of the second.
#[track_caller]
fn same_losses(alone: &Bench, grouped: &Bench, tolerance: f64) -> Vec<u64> {
    let (alone, grouped) = (records(alone), records(grouped));
    assert!(alone.keys().eq(grouped.keys()), "other runs were trained");
    let mut sizes = Vec::new();
    for (name, (record, losses)) in &alone {
        let (other, others) = &grouped[name];
        let (selected, others_selected) = (&record["metrics"]["selected"], &other["metrics"]["selected"]);
        assert_eq!(selected["step"], others_selected["step"], "{selected} and {others_selected}");
        let label = format!("{} seed {} {}", record["method"]["label"], record["seed"], record["stage"]);
        assert_eq!(losses.len(), others.len(), "{label}");
        for (step, (one, other)) in losses.iter().zip(others).enumerate() {
            assert!((one - other).abs() <= tolerance * one.abs(), "{label} step {step}: {one} and {other}");
        }
        assert!(record["cost"].get("group_size").is_none());
        sizes.push(other["cost"]["group_size"].as_u64().unwrap_or(1));
    }
    sizes
}

#[test]
fn a_run_in_a_group_has_the_losses_that_it_has_alone_for_every_method() {
    let (alone, grouped) = (Bench::new(&every_method()), Bench::new(&every_method()));
    done(&alone, &["run", "vtab.yaml", "--group", "1"]);
    done(&grouped, &["run", "vtab.yaml", "--group", "4"]);
    let sizes = same_losses(&alone, &grouped, 1e-5);
    assert_eq!(sizes.len(), 16 * 2 + 2);
    assert!(
        sizes.iter().all(|size| *size == 2),
        "two rates of one seed, then two seeds of one rate: {sizes:?}"
    );
}

/// Selection of weights, and batches of equal numbers.
const SELECT: &str =
    "select: {every_steps: 4, rows: 3, seed: 42}\n          batching: by_modality_and_length";

/// Rows of several lengths, so that the batches of two seeds are padded differently.
fn rows() -> Vec<Value> {
    let question = |index: usize| {
        row(&format!("is {index} {}", "an even number ".repeat(index % 5)), ["true", "false"][index % 2])
    };
    (0..21).map(question).collect()
}

#[test]
fn language_models_in_a_group_have_the_losses_that_they_have_alone() {
    let experiment = |memory: &str| {
        ROWS.replace("BACKBONE", "llama_micro")
            .replace("seeds: [0]", "seeds: [0, 1, 2]")
            .replace("epochs: 1", "epochs: 3")
            .replace(
                "max_new_tokens: 4",
                &format!("max_new_tokens: 2\n          memory: {memory}\n          {SELECT}"),
            )
            .replace(
                "      - {method: san, learning_rate: 1.0e-2}",
                "      - {method: san, learning_rate: 1.0e-2}
      - {method: lora, learning_rate: 3.0e-3, options: {rank: 4, dropout: 0.2, targets: [q, v]}}",
            )
    };
    for memory in ["{}", "{micro_batch_size: 3}", "{micro_batch_size: 3, gradient_checkpointing: true}"] {
        let bench = || bench_on(&experiment(memory), &rows(), &rows()[..2]);
        let (alone, grouped) = (bench(), bench());
        done(&alone, &["run", "vtab.yaml", "--group", "1"]);
        done(&grouped, &["run", "vtab.yaml", "--group", "8"]);
        assert_eq!(same_losses(&alone, &grouped, 2e-5), [3; 6], "{memory}");
    }
}

#[test]
fn precisions_differ_by_rounding_and_are_recorded() {
    for backbone in ["vit_micro", "swin_micro", "convnext_micro"] {
        let losses = |precision: &str| {
            let text = SYNTHETIC
                .replace("vit_micro", backbone)
                .replace("[1.0e-3, 1.0e-2]", "2.0e-3")
                .replace("method: linear, learning_rate: 1.0e-2", "method: fft, learning_rate: 3.0e-4")
                .replace("epochs: 2", &format!("epochs: 4\n      precision: {precision}"));
            let bench = Bench::new(&text);
            done(&bench, &["run", "vtab.yaml", "--group", "2"]);
            let record = |(record, losses): &(Value, Vec<f64>)| {
                let recorded = record["protocol"].get("precision").and_then(Value::as_str).unwrap_or("f32");
                assert_eq!(recorded, precision);
                (format!("{} {}", record["method"]["name"], record["seed"]), losses.clone())
            };
            records(&bench).values().map(record).collect::<BTreeMap<_, _>>()
        };
        let (single, tf32, half) = (losses("f32"), losses("tf32"), losses("bf16"));
        assert_eq!(single, tf32, "on a processor");
        for (run, losses) in single {
            let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
            let (one, other) = (mean(&losses), mean(&half[&run]));
            assert_ne!(one, other, "{backbone} {run}");
            assert!((one - other).abs() < 0.02 * one, "{backbone} {run}: {one} and {other}");
        }
    }
}

#[test]
fn a_run_that_diverges_leaves_the_bytes_of_the_others_as_they_are() {
    let with_rate = |rate: &str| {
        let text = SYNTHETIC.replace("[1.0e-3, 1.0e-2]", &format!("[1.0e-3, {rate}]"));
        let bench = Bench::new(&text.replace("epochs: 2", "epochs: 6"));
        done(&bench, &["run", "vtab.yaml", "--methods", "san", "--group", "2"]);
        bench
    };
    let of_rate = |bench: &Bench, rate: f64| -> (Value, [Vec<u8>; 3]) {
        let tuned = |(_, (record, _)): &(&String, &(Value, Vec<f64>))| {
            record["stage"] == "tune" && record["protocol"]["learning_rate"] == json!(rate)
        };
        let records = records(bench);
        let (name, (record, _)) = records.iter().find(tuned).unwrap();
        let folder = bench.path("results/runs/vtab/embedded").join(name);
        let files = ["adapter.safetensors", "epochs.jsonl", "steps.jsonl"];
        (record.clone(), files.map(|file| std::fs::read(folder.join(file)).unwrap()))
    };
    let (calm, wild) = (with_rate("1.0e-2"), with_rate("1.0e+30"));
    assert_eq!(of_rate(&calm, 1e-3).1, of_rate(&wild, 1e-3).1);
    let (diverged, files) = of_rate(&wild, 1e30);
    assert_eq!(diverged["state"], "diverged");
    let steps = String::from_utf8(files[2].clone()).unwrap();
    assert_eq!(diverged["metrics"]["steps"].as_u64().unwrap(), steps.lines().count() as u64);
    assert!(diverged["metrics"]["steps"].as_u64().unwrap() < 12, "it stopped before the last step");
    let adapter = wild.path("adapter.safetensors");
    std::fs::write(&adapter, &files[0]).unwrap();
    let tensors = san_core::io::safetensors::TensorFile::read(&adapter).unwrap().tensors;
    let is_finite = |tensor: &tch::Tensor| tensor.isfinite().all().int64_value(&[]) == 1;
    assert!(tensors.values().all(is_finite), "it has not changed since its last finite step");
}

/// With an average of the trained tensors, which is part of a checkpoint.
const RESUMED: &str = "epochs: 25\n      gradient_clipping: 0.5\n      ema: 0.95";

#[test]
fn a_group_resumes_after_a_kill_and_publishes_only_the_runs_that_are_missing() {
    let long = || Bench::new(&SYNTHETIC.replace("epochs: 2", RESUMED).replace("[1.0e-3, 1.0e-2]", "1.0e-3"));
    let arguments = ["run", "vtab.yaml", "--methods", "san", "--group", "2", "--checkpoint-every", "0.02"];
    let whole = long();
    done(&whole, &arguments);
    let bench = long();
    let mut child = Command::new(env!("CARGO_BIN_EXE_san"))
        .args(arguments)
        .current_dir(bench.folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let store = bench.path("results/runs/vtab/embedded");
    let checkpoints = || std::fs::read_dir(store.join(".checkpoints")).into_iter().flatten().flatten();
    while !checkpoints().any(|entry| is_checkpoint(&entry.path())) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let workers = Command::new("pgrep").args(["-P", &child.id().to_string()]).output().unwrap();
    child.kill().unwrap();
    for worker in String::from_utf8(workers.stdout).unwrap().split_whitespace() {
        let _ = Command::new("kill").args(["-KILL", worker]).status();
    }
    child.wait().unwrap();
    assert!(bench.runs().is_empty(), "the group ended before it was met");
    done(&bench, &arguments);
    assert_eq!(adapters(&whole), adapters(&bench));
    assert_eq!(checkpoints().count(), 0);

    // A group that was killed between two publications.
    let [kept, lost] = &bench.runs()[..] else { panic!("two runs") };
    let written =
        |run: &std::path::Path| std::fs::metadata(run.join("record.json")).unwrap().modified().unwrap();
    let before = written(kept);
    std::fs::remove_dir_all(lost).unwrap();
    done(&bench, &arguments);
    assert_eq!(adapters(&whole), adapters(&bench));
    assert_eq!(before, written(kept), "a result that is there is not written again");
}
