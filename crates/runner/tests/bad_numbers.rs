//! Numbers that no experiment, method or model can have: one sentence that names the file and the number, no panic, and
//! no time or memory spent on them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Bench, SYNTHETIC, refusal};
use runner::config::experiment::Experiment;

const EXPERIMENT: i32 = 3;

/// The error message for an experiment file; empty for a valid one.
fn refusal_of(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.yaml");
    std::fs::write(&path, bytes).unwrap();
    Experiment::read(&path).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn implausible_numbers_are_refused_with_file_field_and_number() {
    assert_eq!(refusal_of(SYNTHETIC.as_bytes()), "");
    for (sound, changed, field, number) in [
        ("epochs: 2\n", "epochs: 18446744073709551615\n", "epochs", "18446744073709551615"),
        ("batch_size: 16", "batch_size: 18446744073709551615", "batch_size", "18446744073709551615"),
        ("train: 24", "train: 18446744073709551615", "train", "18446744073709551615"),
        ("train: 24", "train: 1000000000000", "train", "1000000000000"),
        ("test: 30", "test: 0", "test", "0"),
    ] {
        let text = SYNTHETIC.replace(sound, changed);
        assert_ne!(text, SYNTHETIC);
        let message = refusal_of(text.as_bytes());
        let wanted = format!("`{field}` is {number}; expected a number from 1 to 1000000");
        assert!(message.contains("some.yaml") && message.contains(&wanted), "{message}");
    }
}

#[test]
fn epochs_on_the_command_line_have_the_limits_of_the_experiment_file() {
    let bench = Bench::new(SYNTHETIC);
    for number in ["0", "1000001", "18446744073709551615"] {
        let message = refusal(&bench.run(&["plan", "vtab.yaml", "--epochs", number]), EXPERIMENT);
        let wanted = format!("`--epochs` is {number}; expected a number from 1 to 1000000");
        assert!(message.contains(&wanted), "{message}");
    }
}

#[test]
fn a_rank_beyond_any_matrix_is_refused_at_planning() {
    for (method, option) in [
        ("lora", "rank"),
        ("dora", "rank"),
        ("vera", "rank"),
        ("vpt", "prompts"),
        ("adaptformer", "bottleneck"),
    ] {
        for number in ["9223372036854775807", "0"] {
            let spec =
                format!("{{method: {method}, learning_rate: 1.0e-3, options: {{{option}: {number}}}}}");
            let text = SYNTHETIC.replace("{method: linear, learning_rate: 1.0e-2}", &spec);
            let said = refusal(&Bench::new(&text).run_all(), EXPERIMENT);
            let wanted = format!("`{option}` is {number}; expected a number from 1 to 65536");
            assert!(said.contains(&wanted), "{method}: {said}");
        }
    }
}

#[test]
fn an_experiment_with_a_byte_order_mark_is_read_and_one_in_utf_16_is_named() {
    for start in ["", "# A comment.\n", "---\n"] {
        assert_eq!(refusal_of(format!("\u{feff}{start}{SYNTHETIC}").as_bytes()), "", "{start}");
    }
    let wide: Vec<u8> = format!("\u{feff}{SYNTHETIC}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let message = refusal_of(&wide);
    assert!(message.contains("some.yaml: it is not UTF-8"), "{message}");
}

#[test]
fn a_deeply_nested_experiment_is_refused_immediately() {
    let started = Instant::now();
    let message = refusal_of("[".repeat(100_000).as_bytes());
    assert!(
        message.contains("some.yaml") && message.contains("more than 10000 opening brackets"),
        "{message}"
    );
    let message = refusal_of("- ".repeat(400_000).as_bytes());
    assert!(message.contains("some.yaml"), "{message}");
    let message = refusal_of(&vec![b' '; 2 << 20]);
    assert!(message.contains("it has 2097152 bytes"), "{message}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn a_repeated_learning_rate_is_refused() {
    let message = refusal_of(SYNTHETIC.replace("[1.0e-3, 1.0e-2]", "[1.0e-3, 1.0e-3]").as_bytes());
    assert!(message.contains("method `san`: `learning_rate` has 0.001 twice"), "{message}");
}

#[test]
fn tuning_needs_a_validation_split() {
    let rows = SYNTHETIC.replace(
        "{synthetic: {train: 24, val: 12, test: 30}}",
        "{rows: {folder: some, source: {training_file: some, val_rows: 0, val_seed: 0}}}",
    );
    let message = refusal_of(rows.as_bytes());
    assert!(message.contains("`san` has 2 settings to choose from and `val_rows` is 0"), "{message}");
}

#[test]
fn test_only_sets_need_conversations_to_train_on() {
    let source = "{questions: {folder: vl, source: {answers: local, val_questions: 0, seed: 0}}}";
    let text = SYNTHETIC
        .replace("{synthetic: {train: 24, val: 12, test: 30}}", source)
        .replace("[1.0e-3, 1.0e-2]", "1.0e-3")
        .replace("[patch_camelyon]", "[pope, gqa]");
    let message = refusal_of(text.as_bytes());
    assert!(message.contains("add a `mixture` of conversations to train on"), "{message}");
    assert_eq!(refusal_of(text.replace("[pope, gqa]", "[pope, easy_vqa]").as_bytes()), "");
}
