//! Workers on several GPUs: one a GPU, each pinned to its own, with the bytes of one worker. The GPUs are pretended
//! (`SAN_PRETENDED_GPUS`), so that everything is computed on the processor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bench, SYNTHETIC, adapters, is_checkpoint, refusal};
use serde_json::Value;

const TWO: [(&str, &str); 1] = [("SAN_PRETENDED_GPUS", "2")];
/// Threads are given, since the order of a product's sums may depend on their number.
const RUN: [&str; 6] = ["run", "vtab.yaml", "--threads", "1", "--checkpoint-every", "0.05"];

/// Four runs in two groups of two seeds, long enough to be met in their middle.
fn long() -> Bench {
    let text = SYNTHETIC.replace("epochs: 2", "epochs: 60").replace("[1.0e-3, 1.0e-2]", "1.0e-3");
    Bench::new(
        &text.replace("{method: linear, learning_rate: 1.0e-2}", "{method: lora, learning_rate: 1.0e-3}"),
    )
}

fn start(bench: &Bench, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_san"))
        .args(arguments)
        .envs(TWO)
        .current_dir(bench.folder.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(bench.path("said")).unwrap())
        .spawn()
        .unwrap()
}

fn said(bench: &Bench) -> String {
    std::fs::read_to_string(bench.path("said")).unwrap()
}

/// The workers of a pool, by the GPU that each sees.
fn pinned(child: &Child) -> BTreeMap<String, String> {
    let output = Command::new("pgrep").args(["-P", &child.id().to_string()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let gpu = |process: &str| {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let mut variables = environment.split('\0');
        variables.find_map(|variable| Some(variable.strip_prefix("CUDA_VISIBLE_DEVICES=")?.to_owned()))
    };
    text.split_whitespace().filter_map(|process| Some((gpu(process)?, process.to_owned()))).collect()
}

/// The processes that train a group at this moment, by the locks that they hold.
fn training(bench: &Bench) -> BTreeSet<String> {
    let locks = std::fs::read_dir(bench.path("results/runs/vtab/embedded/.locks")).into_iter().flatten();
    let texts = locks.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let beats = texts.filter_map(|text| serde_json::from_str::<Value>(&text).ok());
    beats.filter_map(|beat| Some(beat.get("process")?.to_string())).collect()
}

fn checkpoints(bench: &Bench) -> usize {
    let folder = std::fs::read_dir(bench.path("results/runs/vtab/embedded/.checkpoints"));
    folder.into_iter().flatten().flatten().filter(|entry| is_checkpoint(&entry.path())).count()
}

/// Kills processes at once.
fn kill(processes: &[String]) {
    assert!(Command::new("kill").arg("-KILL").args(processes).status().unwrap().success());
}

#[track_caller]
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The records of all runs without what differs from one execution to the next: times, memory and their checksum.
fn records(bench: &Bench) -> Vec<Value> {
    let read = |run: std::path::PathBuf| {
        let text = std::fs::read(run.join("record.json")).unwrap();
        let mut record: Value = serde_json::from_slice(&text).unwrap();
        for (part, fields) in [
            ("cost", &["train_seconds", "evaluate_seconds", "data_seconds", "peak_memory"][..]),
            ("provenance", &["finished_at"]),
        ] {
            fields
                .iter()
                .for_each(|&field| assert!(record[part].as_object_mut().unwrap().remove(field).is_some()));
        }
        assert!(record.as_object_mut().unwrap().remove("checksum").is_some());
        record
    };
    bench.runs().into_iter().map(read).collect()
}

#[test]
fn a_sweep_on_two_gpus_that_is_killed_and_resumed_has_the_bytes_of_one_worker() {
    let whole = long();
    let arguments = [&RUN[..], &["--workers", "1"]].concat();
    refusal(&whole.run_with(&arguments, &TWO), 0);
    let bench = long();
    let mut child = start(&bench, &RUN);
    until("both workers at a group", || {
        let workers: BTreeSet<String> = pinned(&child).into_values().collect();
        workers.len() == 2 && workers == training(&bench) && checkpoints(&bench) == 2
    });
    let workers = pinned(&child);
    assert_eq!(workers.keys().collect::<Vec<_>>(), ["pretended-0", "pretended-1"]);
    kill(&workers.into_values().chain([child.id().to_string()]).collect::<Vec<_>>());
    child.wait().unwrap();
    assert!(bench.runs().is_empty(), "the runs were over before they were met");
    refusal(&bench.run_with(&RUN, &TWO), 0);
    assert_eq!(adapters(&whole), adapters(&bench));
    assert_eq!(records(&whole), records(&bench));
    // What a worker takes is a group; the processor's name is in the records, not a GPU's.
    for record in records(&bench) {
        assert_eq!(record["cost"]["group_size"], 2, "{record}");
        assert!(record["provenance"]["device"].as_str().unwrap().starts_with("cpu"), "{record}");
        assert!(record["provenance"].get("device_uuid").is_none(), "{record}");
    }
}

#[test]
fn a_worker_that_replaces_another_has_its_gpu() {
    let bench = long();
    let mut child = start(&bench, &RUN);
    until("both workers at a group", || pinned(&child).len() == 2 && checkpoints(&bench) == 2);
    let before = pinned(&child);
    kill(&[before["pretended-1"].clone()]);
    until("another worker", || {
        pinned(&child).get("pretended-1").is_some_and(|worker| *worker != before["pretended-1"])
    });
    assert_eq!(pinned(&child)["pretended-0"], before["pretended-0"]);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", said(&bench));
    assert_eq!(bench.runs().len(), 4);
}

#[test]
fn the_plan_names_the_gpus_and_the_share_of_the_processors() {
    let bench = Bench::new(SYNTHETIC);
    let processors = std::thread::available_parallelism().unwrap().get();
    let of = |threads: usize| format!("{threads} thread{}", if threads == 1 { "" } else { "s" });
    let plan = |options: &[&str]| {
        let output = bench.run_with(&[&["plan", "vtab.yaml"], options].concat(), &TWO);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find(|line| line.contains("workers of") || line.contains("worker of")).map(str::to_owned)
    };
    let model = "pretended by SAN_PRETENDED_GPUS, computing on the processor";
    let share = of((processors / 2).max(1));
    assert_eq!(plan(&[]), Some(format!("2 GPUs ({model}), 2 workers of {share}")));
    let one = format!("1 GPU ({model}), 1 worker of {}", of(processors));
    assert_eq!(plan(&["--gpus", "1"]), Some(one.clone()));
    assert_eq!(plan(&["--workers", "1"]), Some(one));
    let four = format!("2 GPUs ({model}), 4 workers of 1 thread");
    assert_eq!(plan(&["--workers", "4", "--threads", "1"]), Some(four));
    assert_eq!(plan(&["--device", "cpu"]), None);
}

#[test]
fn gpus_that_are_not_there_are_refused() {
    let bench = Bench::new(SYNTHETIC);
    let refused =
        |arguments: &[&str]| refusal(&bench.run_with(&[&["run", "vtab.yaml"], arguments].concat(), &TWO), 2);
    assert!(
        refused(&["--gpus", "0,2"]).contains("--gpus 2: there is no such GPU; there are 0 (pretended by")
    );
    assert!(refused(&["--gpus", "0,pretended-0"]).contains("listed twice"));
    assert!(refused(&["--gpus", "0", "--device", "cpu"]).contains("--gpus contradicts --device cpu"));
    let hidden = [("CUDA_VISIBLE_DEVICES", "")];
    let text = refusal(&bench.run_with(&["run", "vtab.yaml", "--gpus", "0"], &hidden), 2);
    assert!(text.contains("no usable NVIDIA GPU"), "{text}");
}
