//! Runs on a cluster: the scripts without Slurm, and a real Slurm if there is one (tools/slurm_loopback.sh).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{Bench, SYNTHETIC, adapters, done, is_checkpoint, refusal};

const SLURM: [&str; 6] = ["run", "vtab.yaml", "--on", "slurm", "--time", "10"];

/// Whether Slurm is available; prints a message if not.
fn slurm_answers() -> bool {
    let answer = Command::new("sinfo").arg("--noheader").output();
    let there = answer.is_ok_and(|output| output.status.success() && !output.stdout.is_empty());
    if !there {
        skipped::report("no Slurm answers; tools/slurm_loopback.sh starts one");
    }
    there
}

#[test]
fn a_dry_run_prints_the_scripts_of_the_open_runs() {
    let bench = Bench::new(SYNTHETIC);
    let options = ["--dry-run", "--gres", "gpu:1", "--chunk", "3", "--partition", "big", "--memory", "2GB"];
    let grouped = done(&bench, &[&SLURM[..], &options].concat());
    assert!(!grouped.contains("--array=0-1"), "four final runs are two groups: {grouped}");
    let options = [&options[..], &["--group", "1"]].concat();
    let scripts = done(&bench, &[&SLURM[..], &options].concat());
    assert!(!bench.path("results").exists(), "a dry run writes nothing");
    let parts: Vec<_> = scripts.split("#!/bin/bash").skip(1).collect();
    assert_eq!(parts.len(), 3, "{scripts}");
    for (part, name, array) in [(parts[0], "tune", "0-0"), (parts[1], "final", "0-1")] {
        for line in [
            &format!("--job-name=san-vtab-embedded-{name}"),
            &format!("--array={array}"),
            "--gres=gpu:1",
            "--partition=big",
            "--mem=2048M",
            "--time=10",
            "--requeue",
            "--signal=B:USR1@120",
        ] {
            assert!(part.contains(&format!("#SBATCH {line}\n")), "{line}: {part}");
        }
        assert!(part.contains(&format!("--part {name} --index $((SLURM_ARRAY_TASK_ID + 0))")), "{part}");
    }
    assert!(parts[2].contains("--part table") && !parts[2].contains("--array"), "{}", parts[2]);
    for (number, text) in parts.iter().enumerate() {
        let path = bench.path(format!("{number}.sh"));
        std::fs::write(&path, format!("#!/bin/bash{text}")).unwrap();
        assert!(Command::new("bash").arg("-n").arg(path).status().unwrap().success(), "{text}");
    }
}

#[test]
fn a_missing_slurm_installation_is_reported() {
    let bench = Bench::new(SYNTHETIC);
    let output = Command::new(env!("CARGO_BIN_EXE_san"))
        .args(SLURM)
        .current_dir(bench.folder.path())
        .env("PATH", bench.folder.path())
        .output()
        .unwrap();
    let text = refusal(&output, 11);
    assert!(text.contains("squeue"), "{text}");
}

#[test]
fn status_counts_the_tasks_that_slurm_reports() {
    let bench = Bench::new(SYNTHETIC);
    let folder = bench.path("results/runs/vtab/embedded/.slurm/1");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("jobs.json"), r#"[{"part": "final", "id": 7, "tasks": 4}]"#).unwrap();
    for (name, said) in [
        ("squeue", "7_0|RUNNING\n7_1|PENDING\n70_0|FAILED"),
        ("sacct", "7_2|COMPLETED\n7_3|CANCELLED by 0\n7_0|PENDING"),
    ] {
        let path = bench.path(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{said}'\n")).unwrap();
        Command::new("chmod").arg("+x").arg(path).status().unwrap();
    }
    let path = format!("{}:{}", bench.folder.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new(env!("CARGO_BIN_EXE_san"))
        .args(["status", "vtab.yaml"])
        .current_dir(bench.folder.path())
        .env("PATH", path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("jobs 7: 1 cancelled, 1 completed, 1 pending, 1 running"), "{text}");
}

/// Waits until no job of the bench is pending or running.
#[track_caller]
fn until_the_queue_is_empty(bench: &Bench) -> String {
    let start = Instant::now();
    loop {
        let status = done(bench, &["status", "vtab.yaml"]);
        if !["pending", "running", "completing", "requeue"].iter().any(|state| status.contains(state)) {
            return status;
        }
        assert!(start.elapsed() < Duration::from_secs(280), "{status}{}", logs(bench));
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// What the tasks printed.
fn logs(bench: &Bench) -> String {
    let files = std::fs::read_dir(bench.path("results/runs/vtab/embedded/.slurm/1")).unwrap().flatten();
    let mut paths: Vec<_> =
        files.map(|file| file.path()).filter(|path| path.extension().unwrap() == "log").collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// The rows of the table that was written, without times and memory.
fn table(bench: &Bench) -> Vec<String> {
    let path = bench.path("results/tables/vtab/embedded/vtab-embedded-vit_micro.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').take(8).collect::<Vec<_>>().join("|")).collect()
}

#[test]
fn a_run_on_slurm_equals_the_local_run() {
    if !slurm_answers() {
        return;
    }
    let local = Bench::new(SYNTHETIC);
    done(&local, &["run", "vtab.yaml"]);
    let bench = Bench::new(SYNTHETIC);
    let submitted = done(&bench, &SLURM);
    assert!(submitted.contains("tune, tasks: 2") && submitted.contains("final, tasks: 4"), "{submitted}");
    let text = refusal(&bench.run(&SLURM), 11);
    assert!(text.contains("are in the queue"), "a second submission: {text}");
    let status = until_the_queue_is_empty(&bench);
    assert!(status.contains("7 completed"), "{status}{}", logs(&bench));
    assert_eq!(adapters(&local), adapters(&bench));
    assert_eq!(table(&local), table(&bench));
    assert!(
        ["SAN beats", "SAN is below", "SAN does not differ", "SAN - "]
            .iter()
            .any(|part| logs(&bench).contains(part)),
        "the last job prints it"
    );
}

#[test]
fn a_warned_or_requeued_task_resumes_and_a_cancelled_one_is_submitted_again() {
    if !slurm_answers() {
        return;
    }
    let text = SYNTHETIC.replace("epochs: 2", "epochs: 150").replace("[1.0e-3, 1.0e-2]", "1.0e-3");
    let whole = Bench::new(&text);
    let options = ["--methods", "san", "--checkpoint-every", "0.1"];
    done(&whole, &[&["run", "vtab.yaml"][..], &options].concat());
    let bench = Bench::new(&text);
    let arguments = [&SLURM[..], &options].concat();
    let submitted = done(&bench, &arguments);
    let job = submitted.split("job ").nth(1).unwrap().split(':').next().unwrap().to_owned();
    let checkpoints = || {
        let folder = bench.path("results/runs/vtab/embedded/.checkpoints");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|entry| is_checkpoint(&entry.path())).count()
    };
    let saved = || {
        let start = Instant::now();
        while checkpoints() < 2 {
            assert!(start.elapsed() < Duration::from_secs(60), "{}", logs(&bench));
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let slurm = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    saved();
    slurm("scancel", &["--batch", "--signal=USR1", &format!("{job}_0")]);
    slurm("scontrol", &["requeue", &format!("{job}_1")]);
    let start = Instant::now();
    while !logs(&bench).contains("stopped by a signal") {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", logs(&bench));
        std::thread::sleep(Duration::from_millis(100));
    }
    slurm("scancel", &[&format!("{job}_1")]);
    // Slurm waits two minutes before it starts a requeued job.
    std::thread::sleep(Duration::from_secs(3));
    slurm("scontrol", &["update", &format!("JobId={job}_0"), "StartTime=now"]);
    until_the_queue_is_empty(&bench);
    assert_eq!(bench.runs().len(), 1, "the warned task went on by itself: {}", logs(&bench));
    let again = done(&bench, &arguments);
    assert!(again.contains("final, tasks: 1"), "{again}");
    until_the_queue_is_empty(&bench);
    assert_eq!(adapters(&whole), adapters(&bench));
}
