//! A small experiment in its own folder, and the program run in it.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

pub struct Bench {
    pub folder: TempDir,
}

/// Two seeds of two methods on a synthetic set; takes a second.
pub const SYNTHETIC: &str = "
name: vtab
suite: vtab
profiles:
  embedded:
    data: {synthetic: {train: 24, val: 12, test: 30}}
    sets: [patch_camelyon]
    backbones: [vit_micro]
    methods:
      - {method: linear, learning_rate: 1.0e-2}
      - {method: san, learning_rate: [1.0e-3, 1.0e-2]}
    seeds: [0, 1]
    unequal_budgets: true
    protocol:
      epochs: 2
      batch_size: 16
      classification:
        warmup_epochs: 1
        image: {image_size: 32, resize: plain, filter: bilinear, normalisation: half}
";

/// One method on rows of text, with a language model in place of BACKBONE.
pub const ROWS: &str = "
name: vtab
suite: commonsense
profiles:
  embedded:
    data: {rows: {folder: '.', source: {training_file: some, val_rows: 2, val_seed: 1}}}
    sets: [boolq]
    backbones: [BACKBONE]
    methods:
      - {method: san, learning_rate: 1.0e-2}
    seeds: [0]
    protocol:
      epochs: 1
      batch_size: 4
      instruction_following:
        examples: {max_length: 128, train_on_inputs: false, keep_answer: false}
        warmup_steps: 1
        language:
          decoding: greedy
          max_new_tokens: 4
          evaluation: {sequences: 4}
";

/// A question with an answer that is true or false.
pub fn row(question: &str, answer: &str) -> Value {
    let instruction = format!("Question: {question}?\n\nAnswer format: true/false");
    json!({"instruction": instruction, "input": "", "output": format!("the correct answer is {answer}"), "answer": answer})
}

/// An experiment on these rows.
pub fn bench_on(experiment: &str, training: &[Value], tests: &[Value]) -> Bench {
    let bench = Bench::new(experiment);
    for (folder, file, rows) in
        [("boolq", "test.json", json!(tests)), ("ft-training_set", "some.json", json!(training))]
    {
        std::fs::create_dir_all(bench.path("data").join(folder)).unwrap();
        std::fs::write(bench.path("data").join(folder).join(file), rows.to_string()).unwrap();
    }
    bench
}

impl Bench {
    pub fn new(experiment: &str) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(bench.path("vtab.yaml"), experiment).unwrap();
        bench
    }

    /// An experiment on files: `mednist` in a folder `data`, with `backbone`.
    pub fn on_files(backbone: &str) -> Self {
        let text = SYNTHETIC
            .replace("{synthetic: {train: 24, val: 12, test: 30}}", "{files: .}")
            .replace("patch_camelyon", "mednist")
            .replace("vit_micro", backbone);
        let bench = Self::new(&text);
        let set = bench.path("data/mednist");
        std::fs::create_dir_all(set.join("images")).unwrap();
        let mut lines = Vec::new();
        for index in 0..18_u8 {
            let name = format!("images/{index}.jpg");
            let picture = image::RgbImage::from_fn(20, 20, |x, y| {
                image::Rgb([index * 10, (x * 12) as u8, (y * 12) as u8])
            });
            picture.save(set.join(&name)).unwrap();
            lines.push(format!("{name} {}", index % 6));
        }
        for (list, range) in
            [("train800", 0..6), ("val200", 6..12), ("train800val200", 0..12), ("test", 12..18)]
        {
            std::fs::write(set.join(format!("{list}.txt")), lines[range].join("\n")).unwrap();
        }
        bench
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, &[])
    }

    /// As [`Bench::run`], with environment variables.
    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::cargo_bin("san").unwrap();
        command.current_dir(self.folder.path()).env_remove("HF_TOKEN").env_remove("HF_ENDPOINT");
        command.env("SAN_DATA", self.path("data")).env("SAN_WEIGHTS", self.path("weights"));
        command.envs(variables.iter().copied()).args(arguments).output().unwrap()
    }

    pub fn run_all(&self) -> Output {
        self.run(&["run", "vtab.yaml"])
    }

    /// The folders of finished runs, sorted.
    pub fn runs(&self) -> Vec<PathBuf> {
        let runs = self.path("results/runs/vtab/embedded");
        let entries = std::fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut runs: Vec<_> = entries.filter(|path| path.join("record.json").is_file()).collect();
        runs.sort();
        runs
    }
}

/// Standard error of a run that exited with `code`, after checking that it did not panic.
#[track_caller]
pub fn refusal(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Runs a command and expects success; returns its standard output.
#[track_caller]
pub fn done(bench: &Bench, arguments: &[&str]) -> String {
    let output = bench.run(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The adapters, predictions and training logs of all runs.
pub fn adapters(bench: &Bench) -> Vec<(PathBuf, Vec<Vec<u8>>)> {
    let files = ["adapter.safetensors", "predictions.parquet", "steps.jsonl", "epochs.jsonl"];
    let read = |run: PathBuf| {
        let contents = files.map(|file| std::fs::read(run.join(file)).unwrap()).to_vec();
        (run.file_name().unwrap().into(), contents)
    };
    bench.runs().into_iter().map(read).collect()
}

/// Whether this is a complete checkpoint, not a partial one (`.<name>`) or a log.
pub fn is_checkpoint(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.ends_with(".safetensors") && !name.starts_with('.')
}
