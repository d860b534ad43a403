//! The eight commonsense datasets: prompts equal to those of LLM-Adapters, parts, checksums, and faults reported by
//! row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::fs;
use std::path::{Path, PathBuf};

use data_loaders::text::{RowLimits, TextSet, TextSource, evaluation_prompt, training_text};
use data_loaders::{Split, Suite, dataset, datasets};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

fn source(val_rows: usize) -> TextSource {
    TextSource { training_file: "commonsense_15k".into(), val_rows, val_seed: 42, at_most: None }
}

fn real_root() -> Option<PathBuf> {
    let root = std::env::var_os("SAN_DATA").map(|data| Path::new(&data).join("commonsense"));
    let root = root.filter(|root| root.is_dir());
    if root.is_none() {
        skipped::report("no commonsense/ under SAN_DATA");
    }
    root
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/text/prompts.json")).unwrap()
}

/// A row in the format of the files.
fn written(question: &str, answer: &str) -> Value {
    let instruction = format!("Question: {question}?\n\nAnswer format: true/false");
    json!({"instruction": instruction, "input": "", "output": format!("the correct answer is {answer}"), "answer": answer})
}

/// A root that contains only `boolq`.
fn root(test: &Value, training: &Value) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (folder, file, rows) in
        [("boolq", "test.json", test), ("ft-training_set", "commonsense_15k.json", training)]
    {
        fs::create_dir(root.path().join(folder)).unwrap();
        fs::write(root.path().join(folder).join(file), rows.to_string()).unwrap();
    }
    root
}

fn open(root: &Path, val_rows: usize) -> Result<TextSet, String> {
    TextSet::open(dataset("boolq").unwrap(), root, &source(val_rows)).map_err(|error| error.to_string())
}

fn rows(count: usize) -> Value {
    (0..count).map(|n| written(&format!("is {n} even"), ["true", "false"][n % 2])).collect()
}

#[test]
fn the_prompts_equal_the_reference_including_spaces() {
    let fixture = fixture();
    let mut row = written("", "true");
    row["instruction"] = fixture["row"]["instruction"].clone();
    let root = root(&json!([row]), &rows(3));
    let set = open(root.path(), 1).unwrap();
    let row = &set.rows(Split::Test)[0];
    assert_eq!(training_text(row), fixture["training"].as_str().unwrap());
    assert_eq!(evaluation_prompt(row), fixture["evaluation"].as_str().unwrap());
}

#[test]
fn the_real_data_sets_have_their_rows_and_the_reference_prompts() {
    let Some(root) = real_root() else { return };
    let fixture = fixture();
    let mut checksums = Vec::new();
    for entry in datasets().unwrap().iter().filter(|entry| entry.suite == Suite::Commonsense) {
        let set = TextSet::open(entry, &root, &source(120)).unwrap();
        let expected = &fixture["sets"][&entry.name];
        let counts = set.counts();
        assert_eq!(json!(counts.test), expected["rows"], "{}", entry.name);
        assert_eq!(counts.test, entry.text.unwrap().test_rows, "{}", entry.name);
        assert_eq!((counts.train, counts.val), (14_881, 120));
        for (kind, text) in
            [("training", training_text as fn(&_) -> String), ("evaluation", evaluation_prompt as _)]
        {
            let digests: Vec<String> =
                set.rows(Split::Test)[..125].iter().map(|row| digest(&text(row))).collect();
            assert_eq!(json!(digests), expected[kind], "{}: {kind}", entry.name);
        }
        assert!(set.rows(Split::Test).iter().all(|row| row.options().contains(&row.answer.as_str())));
        assert!(set.rows(Split::Test).iter().all(|row| row.label(&row.answer).unwrap() < entry.classes));
        checksums.push(set.checksum().to_owned());
    }
    checksums.sort();
    checksums.dedup();
    assert_eq!(checksums.len(), 8);
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes())[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_invalid_row_is_reported_with_data_set_file_and_row() {
    let faulty = |field: &str, value: Value| {
        let mut rows = rows(3);
        rows[1][field] = value;
        rows
    };
    let mut without = rows(3);
    without[1].as_object_mut().unwrap().remove("answer");
    for (test, reason) in [
        (without, "it has no answer"),
        (faulty("answer", json!(" ")), "it has no answer"),
        (faulty("answer", json!("maybe")), "its answer `maybe` is not one of true, false"),
        (faulty("answer", json!("answer1")), "its answer `answer1` is not one of true, false"),
        (faulty("answer", json!("True")), "its answer `True` is not one of"),
        (faulty("output", json!("the correct answer is true")), "does not contain its answer `false`"),
        (faulty("instruction", json!("Is it?")), "does not list the answer `false`"),
        (faulty("input", json!("context")), "it has an input"),
        (faulty("answer", json!(2)), "invalid type"),
        (faulty("label", json!(2)), "unknown field `label`"),
    ] {
        let root = root(&test, &rows(5));
        let message = open(root.path(), 1).unwrap_err();
        let head = format!("boolq: {}: row 2: ", root.path().join("boolq/test.json").display());
        assert!(message.starts_with(&head) && message.contains(reason), "{message}");
    }
}

#[test]
fn a_training_row_may_have_an_answer_of_any_data_set_but_must_have_one() {
    let mut training = rows(4);
    training[0] = json!({"instruction": "Which?\n\nAnswer format: ending1/ending2", "input": "",
        "output": "the correct answer is ending2", "answer": "ending2"});
    assert_eq!(open(root(&rows(1), &training).path(), 1).unwrap().counts().train, 3);
    training[3]["answer"] = json!("ending5");
    let message = open(root(&rows(1), &training).path(), 1).unwrap_err();
    assert!(message.contains("commonsense_15k.json: row 4: its answer `ending5` is not one of"), "{message}");
}

#[test]
fn missing_empty_and_malformed_json_files_are_reported() {
    let nothing = tempfile::tempdir().unwrap();
    assert!(open(nothing.path(), 1).unwrap_err().contains("boolq does not exist"));
    let root = root(&rows(2), &rows(2));
    assert!(open(root.path(), 2).unwrap_err().contains("2 of its 2 rows are held out"));
    fs::write(root.path().join("boolq/test.json"), "[]").unwrap();
    assert!(open(root.path(), 1).unwrap_err().contains("test.json: it has no rows"));
    fs::write(root.path().join("boolq/test.json"), "[{\"answer\": ").unwrap();
    assert!(open(root.path(), 1).unwrap_err().contains("test.json: it is not a JSON array of rows"));
    fs::remove_file(root.path().join("ft-training_set/commonsense_15k.json")).unwrap();
    fs::write(root.path().join("boolq/test.json"), rows(2).to_string()).unwrap();
    assert!(open(root.path(), 1).unwrap_err().contains("cannot read"));
    let images = TextSet::open(dataset("svhn").unwrap(), root.path(), &source(1)).unwrap_err().to_string();
    assert_eq!(images, "svhn: this is an image data set, not a text data set");
}

#[test]
fn the_checksum_covers_the_rows_and_the_sampling() {
    let root = root(&rows(4), &rows(9));
    let checksum = |val_rows| open(root.path(), val_rows).unwrap().checksum().to_owned();
    assert_eq!(checksum(2), checksum(2));
    let first = checksum(2);
    assert_ne!(first, checksum(3));
    fs::write(root.path().join("boolq/test.json"), rows(5).to_string()).unwrap();
    assert_ne!(first, checksum(2));
}

#[test]
fn a_subset_is_sampled_from_all_rows_and_has_its_own_checksum() {
    let root = root(&rows(40), &rows(60));
    let whole = open(root.path(), 10).unwrap();
    let open = |train, test| {
        let source = TextSource { at_most: Some(RowLimits { train, test }), ..source(10) };
        TextSet::open(dataset("boolq").unwrap(), root.path(), &source).unwrap()
    };
    let part = open(12, 8);
    let counts = part.counts();
    assert_eq!((counts.train, counts.val, counts.test), (12, 10, 8));
    assert_eq!(part.rows(Split::Val), whole.rows(Split::Val));
    for split in [Split::Train, Split::Test] {
        let places: Vec<_> = part
            .rows(split)
            .iter()
            .map(|row| whole.rows(split).iter().position(|other| other == row).unwrap())
            .collect();
        assert!(places.is_sorted() && places.last().unwrap() >= &part.rows(split).len(), "{places:?}");
    }
    assert_eq!(open(1000, 1000).rows(Split::TrainVal), whole.rows(Split::TrainVal));
    assert_ne!(part.checksum(), whole.checksum());
    assert_ne!(part.checksum(), open(12, 9).checksum());
}
