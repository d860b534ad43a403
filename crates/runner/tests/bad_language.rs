//! Bad files of language models and of rows: one clear sentence that names the culprit, before anything is trained.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use backbones::language::LanguageArchitecture;
use backbones::language::decoder::Config;
use backbones::language::llama::llama;
use common::{Bench, ROWS, bench_on, refusal, row};
use san_core::Weights;
use san_core::io::safetensors::write_tensors;
use serde_json::{Value, json};
use tch::Kind;

const DATA: i32 = 4;
const WEIGHTS: i32 = 5;

/// Four training rows and these tests.
fn bench(backbone: &str, tests: &[Value]) -> Bench {
    let training: Vec<Value> = (0..4).map(|n| row(&format!("is {n} even"), "true")).collect();
    bench_on(&ROWS.replace("BACKBONE", backbone), &training, tests)
}

/// Wants a refusal at planning: one sentence, and a hint at most.
#[track_caller]
fn refused(bench: &Bench, code: i32, culprits: &[&str]) {
    let text = refusal(&bench.run_all(), code);
    for culprit in culprits {
        assert!(text.contains(culprit), "no {culprit} in: {text}");
    }
    assert!(text.trim_end().lines().count() <= 2, "{text}");
    assert!(bench.runs().is_empty());
}

/// A bench whose backbone `small` is a random LLaMA in a folder of its own, which is then harmed.
fn with_model(harm: impl FnOnce(&Path)) -> Bench {
    let bench = bench("small", &[row("is it", "true")]);
    let folder = bench.path("weights/small");
    std::fs::create_dir_all(&folder).unwrap();
    let config = llama(Config::new(8, 16, 1, 2, 1024));
    let weights = Weights::random(&config.model_spec("small"), 0).unwrap();
    write_tensors(&folder.join("model.safetensors"), weights.iter(), ("k", String::new()), Kind::Float)
        .unwrap();
    std::fs::write(folder.join("config.json"), config.published_config().unwrap().to_string()).unwrap();
    let vocabulary = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/llama_micro.tokenizer.json");
    std::fs::copy(vocabulary, folder.join("tokenizer.json")).unwrap();
    harm(&folder);
    bench
}

#[test]
fn an_intact_model_is_planned() {
    let bench = with_model(|_| {});
    common::done(&bench, &["plan", "vtab.yaml"]);
}

#[test]
fn a_broken_vocabulary_is_named() {
    let bench = with_model(|folder| std::fs::write(folder.join("tokenizer.json"), "{\"version\":").unwrap());
    refused(&bench, WEIGHTS, &["tokenizer.json is not a usable vocabulary", "line 1"]);
}

#[test]
fn a_vocabulary_with_more_ids_than_its_model_is_named_before_anything_is_trained() {
    let bench = with_model(|folder| {
        let path = folder.join("tokenizer.json");
        let mut vocabulary: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let added = json!({"id": 1024, "content": "<more>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": false});
        vocabulary["added_tokens"].as_array_mut().unwrap().push(added);
        std::fs::write(&path, vocabulary.to_string()).unwrap();
    });
    refused(&bench, WEIGHTS, &["tokenizer.json gives `<more>` the id 1024, but its model has 1024 tokens"]);
}

#[test]
fn weights_with_a_nan_are_named_with_their_tensor() {
    let bench = with_model(|folder| {
        let path = folder.join("model.safetensors");
        let file = san_core::io::safetensors::TensorFile::read(&path).unwrap();
        let _ = file.tensors["model.norm.weight"].get(3).fill_(f64::NAN);
        let tensors = file.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        write_tensors(&path, tensors, ("k", String::new()), Kind::Float).unwrap();
    });
    refused(&bench, WEIGHTS, &["model.safetensors", "tensor `model.norm.weight`", "holds NaN or infinity"]);
}

#[test]
fn a_missing_shard_is_named_with_its_index() {
    let bench = with_model(|folder| {
        std::fs::remove_file(folder.join("model.safetensors")).unwrap();
        let map = json!({"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}});
        std::fs::write(folder.join("model.safetensors.index.json"), map.to_string()).unwrap();
    });
    let culprits = ["model-00001-of-00002.safetensors is missing", "model.safetensors.index.json"];
    refused(&bench, WEIGHTS, &culprits);
}

#[test]
fn a_truncated_gguf_file_is_named() {
    let bench = with_model(|folder| {
        for file in ["model.safetensors", "config.json", "tokenizer.json"] {
            std::fs::remove_file(folder.join(file)).unwrap();
        }
        std::fs::write(folder.join("model.gguf"), b"GGUF\x03\x00\x00\x00\x01\x00").unwrap();
    });
    refused(&bench, WEIGHTS, &["model.gguf is not a usable GGUF file", "truncated"]);
}

#[test]
fn a_row_without_an_answer_is_named_by_its_number() {
    let mut mute = row("is it", "true");
    mute["answer"] = json!("");
    refused(&bench("llama_micro", &[row("is it", "true"), mute]), DATA, &["boolq", "test.json", "2"]);
}

#[test]
fn a_prompt_that_is_longer_than_the_context_is_named_with_both_lengths() {
    let long = row(&"is it so ".repeat(200), "true");
    let bench = bench("llama_micro", &[row("is it", "true"), long]);
    // Only a worker counts tokens.
    let text = refusal(&bench.run_all(), DATA);
    assert_eq!(text.matches("row 2 of boolq").count(), 1, "{text}");
    assert!(text.contains("the context of llama_micro is 512"), "{text}");
    assert!(bench.runs().is_empty());
}

#[test]
fn rows_whose_answer_is_truncated_do_not_change_the_training() {
    let long = "does it go on and on and on ".repeat(14);
    // Half of them: as batches have rows of like length, some batch would have no answer at all.
    let rows: Vec<Value> = (0..24)
        .map(|n| row(&if n % 2 == 0 { format!("{long} {n}") } else { format!("is {n} even") }, "true"))
        .collect();
    let bench = bench_on(&ROWS.replace("BACKBONE", "llama_micro"), &rows, &[row("is it", "true")]);
    common::done(&bench, &["run", "vtab.yaml"]);
    let text = std::fs::read_to_string(bench.runs()[0].join("record.json")).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(record["state"], "finished", "{record}");
    assert_eq!(record["metrics"]["truncation"]["answers_lost"], 12, "{record}");
}

#[test]
fn a_truncation_that_removes_every_answer_is_refused() {
    let experiment = ROWS.replace("BACKBONE", "llama_micro").replace("max_length: 128", "max_length: 8");
    let bench = bench_on(
        &experiment,
        &[row("is it", "true"), row("is it so", "true"), row("is it not", "true")],
        &[row("is", "true")],
    );
    let text = refusal(&bench.run_all(), 3);
    assert!(text.contains("`max_length`") && text.contains("raise it"), "{text}");
    assert!(bench.runs().is_empty());
}
