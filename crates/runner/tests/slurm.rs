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

/// The scripts of a dry run, and what it says about them.
fn dry_run(bench: &Bench, options: &[&str]) -> (String, String) {
    let output = bench.run(&[&["run", "vtab.yaml", "--on", "slurm", "--dry-run"], options].concat());
    let said = refusal(&output, 0);
    (String::from_utf8(output.stdout).unwrap(), said)
}

#[test]
fn memory_and_time_are_those_of_the_plan_unless_they_are_given() {
    let bench = Bench::new(SYNTHETIC);
    let (scripts, said) = dry_run(&bench, &[]);
    // 400 MB are assumed, and 5 MB for the model; seconds are estimated.
    assert!(scripts.contains("#SBATCH --mem=1024M\n"), "{scripts}");
    assert!(scripts.contains("#SBATCH --time=00:20:00\n"), "{scripts}");
    assert!(said.contains("assumed") && said.contains("an estimate before the first finished run"), "{said}");
    done(&bench, &["run", "vtab.yaml"]);
    let records = bench.runs().into_iter().map(|run| report::Record::read(&run.join("record.json")).unwrap());
    let peak = records.filter_map(|record| record.cost.peak_memory).max().unwrap();
    let more = SYNTHETIC.replace("seeds: [0, 1]", "seeds: [0, 1, 2]");
    std::fs::write(bench.path("vtab.yaml"), more).unwrap();
    let (scripts, said) = dry_run(&bench, &[]);
    // A run takes less than a second; ten minutes are added, and the sum is rounded up.
    assert!(scripts.contains("#SBATCH --time=00:20:00\n"), "{scripts}");
    let memory = (2 * peak).div_ceil(1 << 30) * 1024;
    assert!(scripts.contains(&format!("#SBATCH --mem={memory}M\n")), "{peak}: {scripts}");
    assert!(said.contains("2 times the largest peak of 6 finished runs"), "{said}");
    assert!(said.contains("2 times what finished runs suggest"), "{said}");
    let (scripts, said) = dry_run(&bench, &["--time", "7", "--memory", "3GB"]);
    assert!(scripts.contains("--time=7\n") && scripts.contains("--mem=3072M\n"), "{scripts}");
    assert!(!said.contains("--mem") && !said.contains("--time"), "{said}");
    let (scripts, _) = dry_run(&bench, &["--sbatch", "--mem-per-cpu=1G", "--sbatch", "--time=9"]);
    assert!(!scripts.contains("--mem=") && scripts.matches("#SBATCH --time=9").count() == 2, "{scripts}");
}

#[test]
fn a_task_has_one_gpu_also_when_it_is_submitted_from_a_machine_without_one() {
    let bench = Bench::new(SYNTHETIC);
    let (scripts, said) = dry_run(&bench, &["--device", "cuda"]);
    for option in ["--gres=gpu:1", "--cpus-per-task=8"] {
        assert_eq!(scripts.matches(&format!("#SBATCH {option}\n")).count(), 2, "{option}: {scripts}");
    }
    assert!(said.contains("each task has 8 threads, --gres=gpu:1, --mem=5120M (assumed"), "{said}");
    let (scripts, _) = dry_run(&bench, &["--gres", "nvme:1", "--device", "cuda", "--threads", "3"]);
    assert!(
        scripts.contains("--gres=nvme:1,gpu:1\n") && scripts.contains("--cpus-per-task=3\n"),
        "{scripts}"
    );
    let (scripts, _) = dry_run(&bench, &["--device", "cuda", "--sbatch", "--gpus-per-task=1"]);
    assert!(!scripts.contains("--gres"), "{scripts}");
    for refused in [["--gres", "gpu:h100:4"], ["--gpus", "0"]] {
        let arguments = [&["run", "vtab.yaml", "--on", "slurm"], &refused[..]].concat();
        let text = refusal(&bench.run(&arguments), 2);
        assert!(text.contains("task") && text.contains(refused[0]), "{text}");
    }
}

#[test]
fn the_main_memory_of_a_gpu_task_is_not_the_memory_of_its_gpu() {
    let bench = Bench::new(SYNTHETIC);
    done(&bench, &["run", "vtab.yaml", "--methods", "linear"]);
    for path in bench.runs().into_iter().map(|run| run.join("record.json")) {
        let mut record = report::Record::read(&path).unwrap();
        record.provenance.device = "cuda(0): NVIDIA H100 80GB HBM3".into();
        record.provenance.device_uuid = Some("GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77".into());
        (record.cost.peak_memory, record.cost.host_memory) = (Some(70 << 30), Some(3 << 30));
        std::fs::write(&path, record.to_bytes().unwrap()).unwrap();
    }
    let (scripts, _) = dry_run(&bench, &["--device", "cuda"]);
    assert!(scripts.contains("--mem=6144M\n"), "{scripts}");
    let (scripts, said) = dry_run(&bench, &["--device", "cpu"]);
    assert!(scripts.contains("--mem=1024M\n") && said.contains("assumed"), "{scripts}");
}

/// Slurm in three scripts: it runs the tasks of an array at once, one after the other.
fn fake_slurm(bench: &Bench) {
    let sbatch = r#"#!/bin/bash
script="${@: -1}"
last=$(sed -n 's/^#SBATCH --array=0-//p' "$script")
for index in $(seq 0 "${last:-0}"); do
    SLURM_ARRAY_TASK_ID=$index bash "$script" >>tasks.log 2>&1 || exit 1
    echo "$script" >>tasks
done
echo 1
"#;
    for (name, text) in [("sbatch", sbatch), ("squeue", "#!/bin/sh\n"), ("scontrol", "#!/bin/sh\n")] {
        std::fs::write(bench.path(name), text).unwrap();
        Command::new("chmod").arg("+x").arg(bench.path(name)).status().unwrap();
    }
}

#[test]
fn a_task_of_an_array_is_a_group_of_runs() {
    let arguments = ["run", "vtab.yaml", "--group", "4"];
    let local = Bench::new(SYNTHETIC);
    done(&local, &arguments);
    let bench = Bench::new(SYNTHETIC);
    fake_slurm(&bench);
    let path = format!("{}:{}", bench.folder.path().display(), std::env::var("PATH").unwrap());
    let output = bench.run_with(&[&arguments[..], &["--on", "slurm"]].concat(), &[("PATH", &path)]);
    refusal(&output, 0);
    // SAN at two rates is one group of two, then two methods with two seeds each are two groups; and the table.
    let tasks = std::fs::read_to_string(bench.path("tasks")).unwrap();
    let of = |part: &str| tasks.lines().filter(|line| line.ends_with(&format!("{part}.sh"))).count();
    assert_eq!((of("tune"), of("final"), of("table")), (1, 2, 1), "{tasks}");
    assert_eq!(adapters(&local), adapters(&bench));
    for run in bench.runs() {
        assert_eq!(report::Record::read(&run.join("record.json")).unwrap().cost.group_size, 2);
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
    // The linear probe trains both seeds together, since its features are computed once.
    assert!(submitted.contains("tune, tasks: 2") && submitted.contains("final, tasks: 3"), "{submitted}");
    let text = refusal(&bench.run(&SLURM), 11);
    assert!(text.contains("already in the queue"), "a second submission: {text}");
    let status = until_the_queue_is_empty(&bench);
    assert!(status.contains("6 completed"), "{status}{}", logs(&bench));
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
