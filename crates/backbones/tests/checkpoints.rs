//! Published language models read from files: safetensors, single or sharded, and GGUF.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use backbones::Error;
use backbones::gguf::{TensorType, dequantise};
use backbones::language::LanguageModel;
use backbones::language::generate::{Decoding, Limits, Prompts, generate};
use backbones::weights::{LanguageCheckpoint, Target, language};
use common::assert_close;
use san_core::AdapterSet;
use san_core::io::safetensors::{TensorFile, write_tensors};
use san_core::nn::builder::ModelBuilder;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, no_grad};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn model(checkpoint: &LanguageCheckpoint) -> Box<dyn LanguageModel> {
    tch::set_num_threads(1);
    checkpoint.architecture.build(&ModelBuilder::new(&checkpoint.weights, &AdapterSet::default())).unwrap()
}

fn config(checkpoint: &LanguageCheckpoint) -> Value {
    checkpoint.architecture.published_config().unwrap()
}

/// The fixtures' small model, written as a publisher would.
struct Published {
    folder: tempfile::TempDir,
    config: Value,
    file: TensorFile,
}

impl Published {
    fn new() -> Self {
        Self::with_model("llama_grouped")
    }

    fn with_model(name: &str) -> Self {
        let file = TensorFile::read(&fixture(&format!("{name}.safetensors"))).unwrap();
        let mut config: Value = serde_json::from_str(&file.metadata["config"]).unwrap();
        config["torch_dtype"] = "float16".into();
        Self { folder: tempfile::tempdir().unwrap(), config, file }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn weights(&self) -> BTreeMap<&str, &Tensor> {
        let tensors = self.file.tensors.iter();
        tensors.filter_map(|(name, tensor)| Some((name.strip_prefix("weights.")?, tensor))).collect()
    }

    fn write_config(&self) {
        fs::write(self.path("config.json"), self.config.to_string()).unwrap();
    }

    /// Splits the tensors alternately between two shards.
    fn write_shards(&self) {
        self.write_config();
        let mut map = BTreeMap::new();
        for part in 0..2 {
            let file = format!("model-0000{}-of-00002.safetensors", part + 1);
            let tensors: Vec<_> = self.weights().into_iter().skip(part).step_by(2).collect();
            map.extend(tensors.iter().map(|(name, _)| ((*name).to_owned(), file.clone())));
            write_tensors(&self.path(&file), tensors, ("format", "pt".into()), Kind::Float).unwrap();
        }
        let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
        fs::write(self.path("model.safetensors.index.json"), index.to_string()).unwrap();
    }

    fn write_single(&self) {
        self.write_config();
        let path = self.path("model.safetensors");
        write_tensors(&path, self.weights(), ("format", "pt".into()), Kind::Float).unwrap();
    }

    fn read(&self) -> Result<LanguageCheckpoint, Error> {
        language(self.folder.path(), Target::default())
    }

    #[track_caller]
    fn assert_rejected(&self, reasons: &[&str]) {
        let message = self.read().unwrap_err().to_string();
        assert!(reasons.iter().all(|reason| message.contains(reason)), "{message}");
        assert!(
            !message.contains('\n') && message.contains(self.folder.path().to_str().unwrap()),
            "{message}"
        );
    }

    #[track_caller]
    fn assert_logits_match(&self, checkpoint: &LanguageCheckpoint) {
        let tokens = self.file.tensors["input"].to_kind(Kind::Int64);
        let logits = no_grad(|| model(checkpoint).forward(&tokens, None));
        assert_close("logits", &logits, &self.file.tensors["logits"], 1e-4);
    }
}

#[test]
fn single_file_shards_and_gguf_give_the_same_model() {
    for name in ["llama_grouped", "qwen2_small"] {
        let (single, shards) = (Published::with_model(name), Published::with_model(name));
        single.write_single();
        shards.write_shards();
        let read = single.read().unwrap();
        assert_eq!(read.checksum, single_checksum(&single.path("model.safetensors")));
        single.assert_logits_match(&read);
        shards.assert_logits_match(&shards.read().unwrap());
        let file = fixture(&format!("{name}.gguf"));
        let gguf = language(&file, Target::default()).unwrap();
        assert_eq!(config(&gguf), config(&read));
        assert_eq!(gguf.checksum, single_checksum(&file));
        single.assert_logits_match(&gguf);
    }
}

fn single_checksum(path: &Path) -> String {
    blake3::hash(&fs::read(path).unwrap()).to_hex().to_string()
}

#[test]
fn matrices_are_cast_to_the_compute_dtype_but_norms_are_not() {
    let target = Target { kind: Kind::BFloat16, device: Device::Cpu };
    let read = language(&fixture("llama_grouped.gguf"), target).unwrap();
    for (name, tensor) in read.weights.iter() {
        let expected = if name.contains("norm") { Kind::Float } else { Kind::BFloat16 };
        assert_eq!(tensor.kind(), expected, "{name}");
    }
}

#[test]
fn a_missing_or_malformed_file_gives_a_one_line_message() {
    let published = Published::new();
    published.assert_rejected(&["model.safetensors", "cannot find the weights"]);
    fs::write(published.path("pytorch_model.bin"), b"PK\x03\x04").unwrap();
    published.assert_rejected(&["pytorch_model.bin", "pickle"]);
    published.write_shards();
    fs::remove_file(published.path("model-00002-of-00002.safetensors")).unwrap();
    published.assert_rejected(&["model-00002-of-00002.safetensors is missing", "index.json"]);
    published.write_shards();
    let shard = published.path("model-00001-of-00002.safetensors");
    let bytes = fs::read(&shard).unwrap();
    for length in [0, 5, 100, bytes.len() - 1] {
        fs::write(&shard, &bytes[..length]).unwrap();
        published.assert_rejected(&["model-00001-of-00002.safetensors is not a usable"]);
    }
    fs::write(&shard, u64::MAX.to_le_bytes()).unwrap();
    published.assert_rejected(&["its header claims to have"]);
    let index = json!({"weight_map": {"model.norm.weight": "../model-00001-of-00002.safetensors"}});
    fs::write(published.path("model.safetensors.index.json"), index.to_string()).unwrap();
    published.assert_rejected(&["is not a plain file name"]);
    published.write_single();
    fs::remove_file(published.path("config.json")).unwrap();
    published.assert_rejected(&["cannot read", "config.json"]);
}

#[test]
fn unsupported_configurations_are_rejected_by_field() {
    let mut published = Published::new();
    published.write_single();
    let valid = published.config.clone();
    for (field, value, reason) in [
        (
            "model_type",
            json!("mistral"),
            "its architecture is `mistral`; supported architectures are llama and qwen2",
        ),
        ("model_type", Value::Null, "`model_type` is missing"),
        ("hidden_act", json!("gelu"), "hidden_act"),
        ("attention_bias", json!(true), "attention_bias"),
        ("mlp_bias", json!(true), "mlp_bias"),
        ("rope_scaling", json!({"type": "linear", "factor": 2.0}), "linear"),
        ("num_key_value_heads", json!(3), "num_key_value_heads"),
        ("num_hidden_layers", json!(-1), "num_hidden_layers"),
        ("vocab_size", json!(i64::MAX), "vocab_size"),
        ("head_dim", json!(5), "pairs"),
        ("hidden_size", json!("wide"), "wide"),
    ] {
        published.config = valid.clone();
        published.config[field] = value;
        published.write_config();
        published.assert_rejected(&["config.json is not a supported configuration", reason]);
    }
    // The format of transformers 5 is equivalent to the older one.
    published.config = valid;
    published.config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 500.0});
    published.write_config();
    assert_eq!(config(&published.read().unwrap())["rope_theta"], json!(500.0));
    published.config["vocab_size"] = 12.into();
    published.write_config();
    published.assert_rejected(&["has shape [11, 24]; the model needs [12, 24]"]);
}

#[test]
fn a_gguf_file_truncated_anywhere_is_rejected_by_name() {
    let whole = fs::read(fixture("llama_grouped.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("truncated.gguf");
    for length in (0..whole.len()).step_by(997).chain([whole.len() - 1]) {
        fs::write(&path, &whole[..length]).unwrap();
        let message = language(&path, Target::default()).unwrap_err().to_string();
        assert!(message.contains("truncated.gguf is not a usable GGUF file"), "{length}: {message}");
    }
}

#[test]
fn dequantised_blocks_match_the_reference() {
    let file = TensorFile::read(&fixture("gguf_blocks.safetensors")).unwrap();
    let kinds = [TensorType::Q8_0, TensorType::Q4_0, TensorType::Q4_1, TensorType::Q4_K, TensorType::Q6_K];
    for kind in kinds {
        let stored = |what: &str| Vec::<f32>::try_from(&file.tensors[&format!("{kind:?}.{what}")]).unwrap();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bytes: Vec<u8> = stored("bytes").iter().map(|&byte| byte as u8).collect();
        let (found, expected) = (dequantise(kind, &bytes), stored("values"));
        assert_eq!(found.len(), expected.len(), "{kind:?}");
        let scale = expected.iter().fold(1.0f32, |scale, value| scale.max(value.abs()));
        let close = |(found, expected): (&f32, &f32)| (found - expected).abs() <= 1e-6 * scale;
        assert!(found.iter().zip(&expected).all(close), "{kind:?}");
    }
    assert_eq!(dequantise(TensorType::F32, &1.5f32.to_le_bytes()), [1.5]);
    assert_eq!(dequantise(TensorType::F16, &[0x00, 0xc0]), [-2.0]);
    assert_eq!(dequantise(TensorType::BF16, &[0xc0, 0x3f]), [1.5]);
}

/// A folder or file under `SAN_WEIGHTS`, if it exists.
fn real(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("SAN_WEIGHTS").map(|root| Path::new(&root).join(name));
    let found = found.filter(|path| path.exists());
    if found.is_none() {
        skipped::report(format_args!("{name} is not under SAN_WEIGHTS"));
    }
    found
}

fn answer(checkpoint: &LanguageCheckpoint, prompt: &[i64], max_new_tokens: i64) -> Vec<i64> {
    let model = model(checkpoint);
    let prompts = Prompts::from_tokens(&*model, &[prompt.to_vec()], Device::Cpu).unwrap();
    let limits = Limits { end_tokens: vec![2], max_new_tokens };
    generate(&*model, &prompts, Decoding::Greedy, &limits).unwrap().remove(0)
}

#[test]
fn stories260k_generates_the_stored_tokens() {
    let Some(folder) = real("stories260K") else { return };
    let stored: Value = serde_json::from_slice(&fs::read(folder.join("greedy.json")).unwrap()).unwrap();
    let ids: Vec<i64> = serde_json::from_value(stored["ids"].clone()).unwrap();
    let read = language(&folder, Target::default()).unwrap();
    assert_eq!(answer(&read, &ids[..1], ids.len() as i64 - 1), ids[1..]);
}

#[test]
fn smollm2_from_gguf_generates_the_tokens_of_transformers() {
    let Some(path) = real("SmolLM2-135M-Instruct") else { return };
    let read = language(&path, Target::default()).unwrap();
    let config = config(&read);
    for (field, value) in [
        ("num_hidden_layers", json!(30)),
        ("num_key_value_heads", json!(3)),
        ("rms_norm_eps", json!(1e-5)),
        ("tie_word_embeddings", json!(true)),
    ] {
        assert_eq!(config[field], value, "{field}");
    }
    // "The capital of France is" and " Paris.\n\nThe answer is: 2", by transformers 5.24 from the same file.
    let prompt = [504, 3575, 282, 4649, 314];
    assert_eq!(answer(&read, &prompt, 10), [7042, 30, 198, 198, 504, 2988, 314, 42, 216, 34]);
}

/// The error message for the model with one configuration field changed.
fn message_with(field: &str, value: Value) -> String {
    let mut published = Published::new();
    published.config[field] = value;
    published.write_single();
    published.read().err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn invalid_numbers_in_a_configuration_are_rejected_with_file_and_field() {
    for (field, value) in [
        ("rope_theta", json!(0)),
        ("rope_theta", json!(-10000.0)),
        ("rms_norm_eps", json!(-1)),
        ("rms_norm_eps", json!(0)),
        ("rms_norm_eps", json!(1e300)),
        ("num_hidden_layers", json!(100_000_000)),
        ("num_hidden_layers", json!(0)),
        ("num_attention_heads", json!(0)),
        ("num_key_value_heads", json!(-1)),
        ("num_attention_heads", json!(7)),
        ("hidden_size", json!(i64::MAX)),
        ("vocab_size", json!(0)),
    ] {
        let message = message_with(field, value.clone());
        assert!(message.contains("config.json") && message.contains(field), "{field} {value}: {message}");
    }
    let scaling = |field: &str, value: Value| {
        let mut scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192.0});
        scaling[field] = value;
        message_with("rope_scaling", scaling)
    };
    for (field, value) in [
        ("factor", json!(0)),
        ("high_freq_factor", json!(1)),
        ("original_max_position_embeddings", json!(-1)),
    ] {
        let message = scaling(field, value);
        assert!(message.contains("config.json") && message.contains(field), "{field}: {message}");
    }
}
