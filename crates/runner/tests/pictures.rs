//! The features of pictures in memory, computed for each batch, and in a file: the same results, memory that does not
//! grow with the pictures, and what interruptions leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bench, done, refusal};
use report::record::Record;
use serde_json::{Value, json};

/// A mixture of conversations about generated pictures. The benches of these tests name every experiment `vtab`.
const EXPERIMENT: &str = "
name: vtab
suite: vl
profiles:
  embedded:
    data: {questions: {folder: vl, source: {answers: local, mixture: [{file: mix.json, images: images}], val_questions: 0, seed: 0}}}
    sets: [pope_coco128]
    backbones: [llava_micro]
    methods:
      - {method: fft, learning_rate: 1.0e-3}
      - {method: san, learning_rate: 1.0e-2, options: {wiring: full}}
    seeds: [0]
    protocol:
      epochs: 1
      batch_size: 8
      visual_question_answering:
        picture: {image_size: 32, square: stretch, filter: bilinear, normalisation: half}
        template: bare
        max_length: 160
        warmup_ratio: 0.03
        language:
          decoding: greedy
          max_new_tokens: 3
          evaluation: {sequences: 4}
";

/// Features are computed for each batch.
const STREAMED: [(&str, &str); 1] = [("SAN_FEATURE_MEMORY", "0")];
/// Features are kept in a file.
const CACHED: [&str; 2] = ["--cache-features", "features"];

/// Writes a picture of 32 x 32 pixels that differs from the others.
fn draw(path: &Path, number: usize) {
    let colour = |x: u32, y: u32| {
        let (x, y) = (x as usize, y as usize);
        [number * 7 + x * 3, number * 13 + y * 5, number / 256 * 29 + x * y].map(|value| (value % 256) as u8)
    };
    image::RgbImage::from_fn(32, 32, |x, y| image::Rgb(colour(x, y))).save(path).unwrap();
}

/// The experiment on a mixture of `count` conversations, each about a picture of its own in LLaVA's format, and a small
/// set with two further pictures.
fn bench_with(text: &str, count: usize) -> Bench {
    let bench = Bench::new(text);
    let set = bench.path("data/vl/pope_coco128");
    let images = bench.path("data/vl/images");
    std::fs::create_dir_all(set.join("images")).unwrap();
    std::fs::create_dir_all(&images).unwrap();
    let row = |folder: &Path, number: usize| {
        draw(&folder.join(format!("{number}.png")), number);
        json!({"id": number.to_string(), "image": format!("{number}.png"), "conversations": [
            {"from": "human", "value": "<image>\nIs there a cat?"},
            {"from": "gpt", "value": if number.is_multiple_of(2) { "Yes" } else { "No" }}]})
    };
    let write =
        |path: PathBuf, rows: Vec<Value>| std::fs::write(path, Value::from(rows).to_string()).unwrap();
    write(bench.path("data/vl/mix.json"), (0..count).map(|number| row(&images, number)).collect());
    write(
        set.join("train.json"),
        (1..3).map(|number| row(&set.join("images"), 1_000_000 + number)).collect(),
    );
    for part in ["random", "popular", "adversarial"] {
        let ask = |id: usize| {
            let image = format!("{}.png", 1_000_000 + id);
            json!({"question_id": id, "image": image, "text": "Is there a dog?", "label": "no"})
        };
        std::fs::write(set.join(format!("coco_pope_{part}.json")), format!("{}\n{}", ask(1), ask(2)))
            .unwrap();
    }
    bench
}

/// Runs an experiment and returns what it says.
#[track_caller]
fn ran(bench: &Bench, options: &[&str], variables: &[(&str, &str)]) -> String {
    let output = bench.run_with(&[&["run", "vtab.yaml", "--workers", "1"], options].concat(), variables);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// What a run of the bench left, by its name: losses by epoch, and the contents of its files.
fn results(bench: &Bench) -> Vec<(PathBuf, Vec<f64>, Vec<Vec<u8>>)> {
    let files = ["adapter.safetensors", "steps.jsonl", "pope_coco128.texts.jsonl"];
    let read = |run: PathBuf| {
        let losses = Record::read(&run.join("record.json")).unwrap().metrics.loss_history;
        let contents = files.map(|file| std::fs::read(run.join(file)).unwrap()).to_vec();
        (run.file_name().unwrap().into(), losses, contents)
    };
    bench.runs().into_iter().map(read).collect()
}

fn feature_files(bench: &Bench) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(bench.path("features")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[track_caller]
fn agree(expected: &Bench, found: &Bench) {
    for ((name, losses, files), (other_name, other, other_files)) in
        results(expected).iter().zip(results(found))
    {
        assert_eq!(*name, other_name, "where features are kept does not enter a run");
        assert!(!losses.is_empty() && losses.len() == other.len());
        for (loss, other) in losses.iter().zip(other) {
            assert!((loss - other).abs() < 1e-5 * loss, "{loss} {other}");
        }
        assert_eq!(files[2], other_files[2], "the same answers");
    }
}

#[test]
fn features_in_memory_for_each_batch_and_in_a_file_give_the_same_losses_and_answers() {
    // Several questions about one picture in a batch, micro-batches, and pictures that two batches share.
    let text =
        EXPERIMENT.replace("max_new_tokens: 3", "max_new_tokens: 3\n          memory: {micro_batch_size: 3}");
    let bench = || {
        let bench = bench_with(&text, 70);
        let path = bench.path("data/vl/mix.json");
        let rows = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, rows.replace("\"1.png\"", "\"0.png\"").replace("\"3.png\"", "\"2.png\""))
            .unwrap();
        bench
    };
    let (memory, streamed, cached) = (bench(), bench(), bench());
    let silent = ran(&memory, &[], &[]);
    assert!(!silent.contains("features"), "{silent}");
    let said = ran(&streamed, &[], &STREAMED);
    assert!(said.contains("the features of 70 pictures would need 280.00 KiB"), "{said}");
    agree(&memory, &streamed);
    let said = ran(&cached, &CACHED, &[]);
    assert!(said.contains("the features of 70 pictures are written to"), "{said}");
    assert_eq!(said.matches("are written to").count(), 1, "the second run reads the file: {said}");
    // 64 pictures in each forward pass of the tower in both cases: the same bytes.
    assert_eq!(results(&memory), results(&cached));
}

#[test]
fn a_file_of_features_is_announced_and_has_the_precision_of_the_protocol() {
    let bf16 = EXPERIMENT.replace("batch_size: 8", "batch_size: 8\n      precision: bf16");
    let bench = bench_with(&bf16, 20);
    let plan = done(&bench, &[&["plan", "vtab.yaml"][..], &CACHED].concat());
    assert!(plan.contains("features of 22 pictures for llava_micro: 44.00 KiB in features"), "{plan}");
    assert!(feature_files(&bench).is_empty());
    ran(&bench, &[&CACHED[..], &["--methods", "san"]].concat(), &[]);
    let [file] = &feature_files(&bench)[..] else { panic!("{:?}", feature_files(&bench)) };
    // Any reader of safetensors can open it.
    let features = &san_core::io::safetensors::TensorFile::read(file).unwrap().tensors["features"];
    assert_eq!(features.size(), [22, 16, 64]);
    let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
    assert!(text.contains(r#""dtype":"BF16""#));
    let memory = bench_with(&bf16, 20);
    ran(&memory, &["--methods", "san"], &[]);
    assert_eq!(results(&memory), results(&bench));
    // Other contents under the same name are other pictures.
    draw(&bench.path("data/vl/images/7.png"), 77);
    ran(&bench, &[&CACHED[..], &["--methods", "san"]].concat(), &[]);
    assert_eq!(feature_files(&bench).len(), 2);
    let file = file.clone();
    draw(&bench.path("data/vl/images/7.png"), 7);
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(5000).unwrap();
    let said = refusal(&bench.run(&[&["run", "vtab.yaml", "--methods", "fft"][..], &CACHED].concat()), 4);
    assert!(said.contains("is damaged; remove it"), "{said}");
}

/// The program in the background.
fn start(bench: &Bench, options: &[&str], variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_san"));
    command.args(["run", "vtab.yaml", "--workers", "1", "--methods", "san"]).args(options);
    command.env("SAN_DATA", bench.path("data")).env("SAN_WEIGHTS", bench.path("weights"));
    command.envs(variables.iter().copied()).current_dir(bench.folder.path());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_signal_stops_the_making_of_a_file_which_the_next_run_continues() {
    const COUNT: usize = 1000;
    let whole = bench_with(EXPERIMENT, COUNT);
    let bench = bench_with(EXPERIMENT, COUNT);
    let mut child = start(&bench, &CACHED, &[]);
    let asked = Instant::now();
    let has_begun = || {
        let paths = feature_files(&bench);
        paths.iter().any(|path| path.metadata().is_ok_and(|metadata| metadata.len() > 10_000))
    };
    while !has_begun() {
        assert!(asked.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    let asked = Instant::now();
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let [partial] = &feature_files(&bench)[..] else { panic!("{:?}", feature_files(&bench)) };
    assert!(partial.extension().is_some_and(|ending| ending == "partial"), "{partial:?}");
    // A row that was written in part is dropped.
    let length = partial.metadata().unwrap().len();
    std::fs::OpenOptions::new().write(true).open(partial).unwrap().set_len(length - 100).unwrap();
    let options = [&CACHED[..], &["--methods", "san"]].concat();
    let said = ran(&bench, &options, &[]);
    assert!(said.contains("are written to") && !said.contains("; 0 are there"), "{said}");
    ran(&whole, &options, &[]);
    let contents = |bench: &Bench| {
        let [file] = &feature_files(bench)[..] else { panic!("{:?}", feature_files(bench)) };
        (file.file_name().unwrap().to_owned(), std::fs::read(file).unwrap())
    };
    assert!(contents(&bench) == contents(&whole));
    assert_eq!(results(&bench), results(&whole));
}

#[test]
fn a_streamed_training_resumes_in_the_middle_of_an_epoch_with_the_same_bytes() {
    let whole = bench_with(EXPERIMENT, 600);
    let bench = bench_with(EXPERIMENT, 600);
    let mut child = start(&bench, &["--checkpoint-every", "0.05"], &STREAMED);
    let checkpoints = bench.path("results/runs/vtab/embedded/.checkpoints");
    let is_saved = || {
        let entries = std::fs::read_dir(&checkpoints).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| common::is_checkpoint(&entry.path()))
    };
    let asked = Instant::now();
    while !is_saved() {
        assert!(asked.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    ran(&bench, &["--methods", "san"], &STREAMED);
    ran(&whole, &["--methods", "san"], &STREAMED);
    assert_eq!(results(&bench), results(&whole));
}

/// Peak memory of a run, bytes.
fn peak_memory(count: usize, options: &[&str], variables: &[(&str, &str)]) -> u64 {
    let bench = bench_with(EXPERIMENT, count);
    ran(&bench, &[&["--methods", "san"], options].concat(), variables);
    let peak = Record::read(&bench.runs()[0].join("record.json")).unwrap().cost.peak_memory.unwrap();
    println!("{count} pictures {options:?} {variables:?}: {} MiB", peak >> 20);
    peak
}

/// `SAN_PICTURE_COUNT=20000` makes the measurement of docs/speed.md.
#[test]
fn memory_does_not_grow_with_the_number_of_pictures() {
    let count: u64 = std::env::var("SAN_PICTURE_COUNT").map_or(3000, |count| count.parse().unwrap());
    let peak = |count: u64, options: &[&str], variables| peak_memory(count as usize, options, variables);
    let (few, many) = (peak(count / 10, &[], &STREAMED), peak(count, &[], &STREAMED));
    // Features have 4 KiB a picture, pixels 12 KiB; a question with its tokens has less than 2 KiB.
    assert!(many < few + (12 << 20) + 2048 * count, "{few} {many}");
    assert!(many + 4096 * count < peak(count, &[], &[]), "all features are in memory otherwise");
    if count > 3000 {
        let cached = peak(count, &CACHED, &[]);
        assert!(cached < few + (16 << 20) + 2048 * count, "{few} {cached}");
    }
}
