//! Workers that die, hang or are too large, and signals at every part of a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bench, SYNTHETIC, adapters, done, is_checkpoint, refusal};

/// Two runs of one method, long enough to be met in their middle.
fn long() -> Bench {
    Bench::new(&SYNTHETIC.replace("epochs: 2", "epochs: 60").replace("[1.0e-3, 1.0e-2]", "1.0e-3"))
}

const SAN: [&str; 6] = ["run", "vtab.yaml", "--methods", "san", "--checkpoint-every", "0.05"];

/// The program in the background, its standard error in a file of the bench.
fn start(bench: &Bench, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_san"))
        .args(arguments)
        .current_dir(bench.folder.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(bench.path("said")).unwrap())
        .spawn()
        .unwrap()
}

fn said(bench: &Bench) -> String {
    std::fs::read_to_string(bench.path("said")).unwrap()
}

fn workers_of(child: &Child) -> Vec<String> {
    let output = Command::new("pgrep").args(["-P", &child.id().to_string()]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

fn signal(process: &str, signal: &str) {
    let _ = Command::new("kill").args([signal, process]).stderr(Stdio::null()).status();
}

/// Waits for something; panics when it takes a minute.
#[track_caller]
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process has come so far that it listens.
fn handles_sigterm(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() >> 14 & 1 == 1)
}

fn checkpoints(bench: &Bench) -> usize {
    let folder = bench.path("results/runs/vtab/embedded/.checkpoints");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // `.<name>.<process>` is a half, `<run>.steps.jsonl` a log.
    entries.filter(|entry| is_checkpoint(&entry.path())).count()
}

#[test]
fn a_killed_worker_is_replaced_and_its_run_resumes() {
    let whole = long();
    done(&whole, &SAN);
    let bench = long();
    let mut child = start(&bench, &[&SAN[..], &["--workers", "2"]].concat());
    until("a saved state", || checkpoints(&bench) > 0);
    signal(&workers_of(&child)[0], "-KILL");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", said(&bench));
    assert!(said(&bench).contains("was killed by signal 9; another one takes over"), "{}", said(&bench));
    assert_eq!(adapters(&whole), adapters(&bench));
}

/// A handler on the stack of a thread that is in one of oneDNN's products would overwrite its memory.
#[test]
fn only_a_thread_that_computes_nothing_receives_signals() {
    let bench = long();
    let mut child = start(&bench, &[&SAN[..], &["--workers", "1"]].concat());
    until("a saved state", || checkpoints(&bench) > 0);
    let threads = std::fs::read_dir(format!("/proc/{}/task", workers_of(&child)[0])).unwrap().flatten();
    let field = |path: &std::path::Path, name: &str| {
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        let lines = status.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(|value| value.trim().to_owned()).next().unwrap_or_default()
    };
    let receives = |path: &std::path::PathBuf| {
        let blocked = u64::from_str_radix(&field(path, "SigBlk:"), 16);
        blocked.is_ok_and(|mask| mask >> 14 & 1 == 0)
    };
    let receivers: Vec<_> = threads.map(|thread| thread.path()).filter(receives).collect();
    let names: Vec<_> = receivers.iter().map(|path| field(path, "Name:")).collect();
    assert_eq!(names, ["signals"]);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", said(&bench));
}

#[test]
fn a_run_that_repeatedly_kills_its_worker_fails_and_the_others_run() {
    let bench = long();
    let arguments = [&SAN[..], &["--workers", "1"]].concat();
    let mut child = start(&bench, &arguments);
    let failed = || said(&bench).contains(" failed: ");
    let locks = bench.path("results/runs/vtab/embedded/.locks");
    let at_a_run = |process: &str| {
        let texts = std::fs::read_dir(&locks).into_iter().flatten().flatten();
        let mut texts = texts.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        texts.any(|text| text.contains(&format!("\"process\":{process},")))
    };
    for _ in 0..3 {
        let mut worker = Vec::new();
        until("a worker at its run", || {
            worker = workers_of(&child);
            worker.first().is_some_and(|process| at_a_run(process))
        });
        signal(&worker[0], "-KILL");
        until("its end", || !workers_of(&child).contains(&worker[0]));
    }
    assert_eq!(child.wait().unwrap().code(), Some(10), "{}", said(&bench));
    assert!(failed() && said(&bench).contains("it has ended 3 workers"), "{}", said(&bench));
    assert_eq!(bench.runs().len(), 1, "the other run ran");
    let status = done(&bench, &["status", "vtab.yaml", "--methods", "san"]);
    assert!(status.contains("failed: ") && status.contains("signal 9"), "{status}");
    done(&bench, &arguments);
    assert_eq!(bench.runs().len(), 2, "the next run tries it again");
    assert!(!done(&bench, &["status", "vtab.yaml"]).contains("failed: "));
}

#[test]
fn a_hanging_worker_is_reported_and_replaced() {
    let bench = long();
    let mut child = start(&bench, &[&SAN[..], &["--workers", "1", "--hung-after", "3"]].concat());
    until("a saved state", || checkpoints(&bench) > 0);
    signal(&workers_of(&child)[0], "-STOP");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", said(&bench));
    assert!(said(&bench).contains("has not responded for 3 s and is terminated"), "{}", said(&bench));
    assert_eq!(bench.runs().len(), 2);
}

#[test]
fn the_memory_limit_bounds_the_number_of_workers() {
    let bench = Bench::new(SYNTHETIC);
    let text = refusal(&bench.run(&["run", "vtab.yaml", "--memory", "50MB"]), 10);
    assert!(text.contains("a worker needs about 400 MB") && text.contains("50 MB"), "{text}");
    let output = bench.run(&["run", "vtab.yaml", "--workers", "2", "--memory", "700MB"]);
    let text = refusal(&output, 0);
    assert!(text.contains("1 of 2 workers") && text.contains("assumed"), "{text}");
    // Now the need is measured, and what is measured is believed.
    let more = SYNTHETIC.replace("seeds: [0, 1]", "seeds: [0, 1, 2]");
    std::fs::write(bench.path("vtab.yaml"), more).unwrap();
    let text = refusal(&bench.run(&["run", "vtab.yaml", "--memory", "50MB"]), 10);
    assert!(text.contains("the largest peak of"), "{text}");
}

#[test]
fn a_worker_above_the_memory_limit_is_stopped_and_its_run_fails() {
    // 400 MB are assumed; steps of so many images need more than the 401 MB that are granted.
    let text = SYNTHETIC.replace("train: 24", "train: 900").replace("batch_size: 16", "batch_size: 900");
    let bench = Bench::new(&text.replace("[1.0e-3, 1.0e-2]", "1.0e-3").replace("epochs: 2", "epochs: 9"));
    let arguments = ["run", "vtab.yaml", "--methods", "san", "--seeds", "0", "--memory", "401MB"];
    let text = refusal(&bench.run(&arguments), 10);
    assert!(text.contains("the memory limit for all workers is 401 MB"), "{text}");
}

/// A run is met by a signal and ends with the resumable code in time.
#[track_caller]
fn stopped(child: &mut Child, by: &str) {
    let start = Instant::now();
    signal(&child.id().to_string(), by);
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn every_signal_stops_a_training_which_can_be_resumed() {
    let bench = long();
    for by in ["-TERM", "-INT", "-USR1"] {
        let mut child = start(&bench, &SAN);
        until("a saved state", || checkpoints(&bench) > 0 && !workers_of(&child).is_empty());
        stopped(&mut child, by);
    }
    let whole = long();
    done(&whole, &SAN);
    done(&bench, &SAN);
    assert_eq!(adapters(&whole), adapters(&bench));
}

#[test]
fn a_signal_during_data_preparation_stops_the_run_which_can_be_resumed() {
    let text = SYNTHETIC.replace("train: 24, val: 12, test: 30", "train: 24, val: 12, test: 3000");
    let bench = Bench::new(&text);
    let arguments = ["run", "vtab.yaml", "--methods", "linear", "--seeds", "0"];
    let mut child = start(&bench, &arguments);
    until("its handlers", || handles_sigterm(&child));
    stopped(&mut child, "-TERM");
    // And in the worker's preparation, once it holds its run.
    let mut child = start(&bench, &arguments);
    let locks = bench.path("results/runs/vtab/embedded/.locks");
    until("a claim", || std::fs::read_dir(&locks).is_ok_and(|mut entries| entries.next().is_some()));
    stopped(&mut child, "-TERM");
    assert!(bench.runs().is_empty());
    done(&bench, &arguments);
}

#[test]
fn a_signal_during_evaluation_keeps_the_trained_state() {
    let text = SYNTHETIC.replace("test: 30", "test: 3000").replace("[1.0e-3, 1.0e-2]", "1.0e-3");
    let arguments = ["run", "vtab.yaml", "--methods", "san", "--seeds", "0", "--checkpoint-every", "0"];
    let bench = Bench::new(&text);
    let mut child = start(&bench, &arguments);
    until("the training's end", || steps_saved(&bench) >= 5);
    std::thread::sleep(Duration::from_millis(200));
    stopped(&mut child, "-TERM");
    assert!(bench.runs().is_empty(), "the evaluation was over before it was met");
    assert_eq!(steps_saved(&bench), 6, "the last step is saved");
    done(&bench, &arguments);
    let whole = Bench::new(&text);
    done(&whole, &arguments);
    assert_eq!(adapters(&whole), adapters(&bench));
}

/// Steps in the one checkpoint of a bench.
fn steps_saved(bench: &Bench) -> u64 {
    let folder = bench.path("results/runs/vtab/embedded/.checkpoints");
    let mut paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let Some(path) = paths.find(|path| is_checkpoint(path)) else { return 0 };
    let Ok(file) = san_core::io::safetensors::TensorFile::read(&path) else { return 0 };
    let header: serde_json::Value = serde_json::from_str(&file.metadata["san_checkpoint"]).unwrap();
    header["progress"]["steps"].as_u64().unwrap()
}

#[test]
fn an_unresponsive_worker_is_abandoned_and_a_second_signal_exits_immediately() {
    let bench = long();
    for second in [false, true] {
        let mut child = start(&bench, &[&SAN[..], &["--workers", "1"]].concat());
        until("a saved state", || checkpoints(&bench) > 0 && !workers_of(&child).is_empty());
        let worker = workers_of(&child).remove(0);
        signal(&worker, "-STOP");
        let start = Instant::now();
        if second {
            signal(&child.id().to_string(), "-TERM");
            std::thread::sleep(Duration::from_millis(300));
        }
        stopped(&mut child, "-TERM");
        assert!(!second || start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        signal(&worker, "-KILL");
    }
    done(&bench, &SAN);
}

#[test]
fn a_signal_saves_the_state_without_the_kill_program() {
    let bench = long();
    let mut child = Command::new(env!("CARGO_BIN_EXE_san"))
        .args(["run", "vtab.yaml", "--methods", "san", "--checkpoint-every", "3600"])
        .current_dir(bench.folder.path())
        .env("PATH", "")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let locks = bench.path("results/runs/vtab/embedded/.locks");
    let in_training = || {
        let texts = std::fs::read_dir(&locks).into_iter().flatten().flatten();
        let mut texts = texts.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        texts.any(|text| text.contains("\"process\""))
    };
    until("a run in its middle", in_training);
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    signal(&child.id().to_string(), "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());
    assert!(checkpoints(&bench) > 0, "nothing was saved");
}

#[test]
fn unwritable_standard_error_does_not_end_a_run() {
    let bench = Bench::new(&SYNTHETIC.replace("[1.0e-3, 1.0e-2]", "1.0e-2"));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_san"))
        .args(["run", "vtab.yaml"])
        .current_dir(bench.folder.path())
        .stdout(Stdio::null())
        .stderr(full)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(bench.runs().len(), 4);
    // A reader of both streams that has gone.
    let command =
        format!("'{}' run vtab.yaml 2>&1 | true; exit ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_san"));
    let piped =
        Command::new("bash").args(["-c", &command]).current_dir(bench.folder.path()).status().unwrap();
    assert_eq!(piped.code(), Some(0));
}

#[test]
fn more_threads_than_processors_are_refused() {
    let bench = Bench::new(SYNTHETIC);
    let said = refusal(&bench.run(&["run", "vtab.yaml", "--threads", "1000"]), 2);
    assert!(said.contains("--threads 1000") && said.contains("processors"), "{said}");
}

/// LoRA of a rank that needs gigabytes, between two methods that run; LoRA and SAN are tuned.
const FAILING: &str =
    "- {method: lora, learning_rate: [1.0e-3, 1.0e-2], options: {rank: 65536}, protocol: {epochs: 200}}";

#[test]
fn a_method_that_always_fails_does_not_end_the_sweep() {
    let recipe = SYNTHETIC.replace("- {method: linear", &format!("{FAILING}\n      - {{method: linear"));
    assert_ne!(recipe, SYNTHETIC);
    let bench = Bench::new(&recipe);
    let output = bench.run(&["run", "vtab.yaml", "--workers", "1", "--memory", "700MB"]);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.code().is_some_and(|code| code != 0), "{text}");
    // Every other row is there, and the table says what is missing.
    let methods: std::collections::BTreeSet<String> = bench
        .runs()
        .iter()
        .map(|run| report::Record::read(&run.join("record.json")).unwrap())
        .filter(|record| record.stage == report::record::Stage::Final)
        .map(|record| record.method.name)
        .collect();
    assert_eq!(methods.into_iter().collect::<Vec<_>>(), ["linear", "san"], "{text}");
    assert!(text.contains("planned runs are missing") && text.contains("LoRA"), "{text}");
    let status = done(&bench, &["status", "vtab.yaml"]);
    assert!(status.contains("it was not run, because its tuning failed"), "{status}");
}
