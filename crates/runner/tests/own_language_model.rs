//! A language model of the user's own in a folder, of an architecture that no bundled model has: it is planned, trained,
//! evaluated, exported and imported like any other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use backbones::language::configure;
use common::{Bench, ROWS, bench_on, done, refusal, row};
use san_core::Weights;
use san_core::io::safetensors::{TensorFile, write_tensors};
use serde_json::json;
use tch::Kind;

/// A bench with a random Qwen2 in the folder `small`, tuned by LoRA.
fn with_qwen2() -> Bench {
    let lora = "{method: lora, learning_rate: 1.0e-2, options: {rank: 2, targets: [q, v]}}";
    let experiment = ROWS.replace("BACKBONE", "small").replace("{method: san, learning_rate: 1.0e-2}", lora);
    // Its small vocabulary makes long sequences.
    let experiment = experiment.replace("max_length: 128", "max_length: 512");
    let rows: Vec<_> = (0..4).map(|n| row(&format!("is {n} even"), "true")).collect();
    let bench = bench_on(&experiment, &rows, &rows);
    let folder = bench.path("weights/small");
    std::fs::create_dir_all(&folder).unwrap();
    // As published: with a sliding window that is switched off, and a tied output embedding.
    let published = json!({
        "model_type": "qwen2", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320, "rms_norm_eps": 1e-6,
        "rope_theta": 1e6, "max_position_embeddings": 1024, "tie_word_embeddings": true, "hidden_act": "silu",
        "use_sliding_window": false, "sliding_window": 1024, "max_window_layers": 2,
    });
    let weights = Weights::random(&configure(published.clone()).unwrap().model_spec("small"), 0).unwrap();
    write_tensors(&folder.join("model.safetensors"), weights.iter(), ("k", String::new()), Kind::Float)
        .unwrap();
    std::fs::write(folder.join("config.json"), published.to_string()).unwrap();
    let vocabulary =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../backbones/tests/fixtures/tokenizer/qwen2");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(vocabulary.join(name), folder.join(name)).unwrap();
    }
    bench
}

#[test]
fn a_qwen2_in_a_folder_is_trained_exported_and_imported() {
    let bench = with_qwen2();
    done(&bench, &["run", "vtab.yaml"]);
    assert_eq!(bench.runs().len(), 1);
    // By its path, the same model has the same name in every output.
    let plan = done(&bench, &["plan", "vtab.yaml", "--model", "weights/small"]);
    assert!(plan.contains("trained in small"), "{plan}");
    let table = done(&bench, &["wiring", "small", "--wiring", "full"]);
    assert!(table.contains("model.layers.1.self_attn.o_proj"), "{table}");
    let run = bench.runs()[0].display().to_string();
    done(&bench, &["export", &run, "--output", "peft"]);
    let said = done(&bench, &["import", "peft", "--backbone", "small", "--output", "adapter.safetensors"]);
    assert!(said.contains("LoRA r=2"), "{said}");
    let read = |path| TensorFile::read(path).unwrap().tensors;
    let (before, after) =
        (read(&bench.runs()[0].join("adapter.safetensors")), read(&bench.path("adapter.safetensors")));
    assert_eq!(before, after);
    done(&bench, &["merge", &run, "--output", "merged"]);
    let config = std::fs::read_to_string(bench.path("merged/config.json")).unwrap();
    assert!(config.contains("Qwen2ForCausalLM"), "{config}");
}

#[test]
fn all_end_tokens_of_a_generation_config_are_used_and_are_part_of_the_checksum() {
    let bench = with_qwen2();
    let config = bench.path("weights/small/generation_config.json");
    std::fs::write(&config, json!({"eos_token_id": [0, 7]}).to_string()).unwrap();
    done(&bench, &["run", "vtab.yaml"]);
    let record = std::fs::read_to_string(bench.runs()[0].join("record.json")).unwrap();
    assert!(record.contains("+end tokens [7]"), "{record}");
    std::fs::write(&config, json!({"eos_token_id": ["</s>"]}).to_string()).unwrap();
    let said = refusal(&bench.run(&["plan", "vtab.yaml"]), 5);
    assert!(said.contains("generation_config.json") && said.contains("`eos_token_id`"), "{said}");
}

#[test]
fn without_a_generation_config_the_end_tokens_of_the_configuration_are_used() {
    let bench = with_qwen2();
    let path = bench.path("weights/small/config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["eos_token_id"] = json!([0, 5]);
    std::fs::write(&path, config.to_string()).unwrap();
    done(&bench, &["run", "vtab.yaml"]);
    let record = std::fs::read_to_string(bench.runs()[0].join("record.json")).unwrap();
    assert!(record.contains("+end tokens [5]"), "{record}");
    let generation = json!({"eos_token_id": 7}).to_string();
    std::fs::write(bench.path("weights/small/generation_config.json"), generation).unwrap();
    done(&bench, &["run", "vtab.yaml"]);
    let records =
        bench.runs().into_iter().map(|run| std::fs::read_to_string(run.join("record.json")).unwrap());
    assert!(records.into_iter().any(|record| record.contains("+end tokens [7]")));
}
