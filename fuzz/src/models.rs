//! Files of language models.

use std::fs;
use std::path::{Path, PathBuf};

use backbones::tokenizer::Tokenizer;
use backbones::weights::{Target, language};

use crate::scratch;

const TEXT: &str = "Is a \"cat\" there?\n\u{e9}\u{1f408} 12";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/backbones/tests/fixtures").join(name)
}

fn stored(path: PathBuf) -> Vec<u8> {
    fs::read(path).expect("the fixtures are there")
}

/// Reads a file's weights, and its vocabulary.
pub fn gguf(input: &[u8]) {
    let path = scratch::write("model.gguf", input);
    let _ = language(&path, Target::default());
    encode(&path);
}

/// Valid inputs.
pub fn gguf_seeds() -> Vec<Vec<u8>> {
    vec![stored(fixture("llama_grouped.gguf"))]
}

fn encode(path: &Path) {
    let Ok(tokenizer) = Tokenizer::read(path) else { return };
    let _ = tokenizer.fits(100);
    if let Ok(ids) = tokenizer.encode(TEXT) {
        let _ = tokenizer.decode(&ids);
    }
    let _ = tokenizer.encode_spans(TEXT, false);
}

/// Reads a folder; the input is the configuration, a zero byte and the weights.
pub fn safetensors(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (config, weights) = input.split_at(end);
    scratch::write("folder/config.json", config);
    let weights = scratch::write("folder/model.safetensors", weights.get(1..).unwrap_or_default());
    let _ = language(weights.parent().expect("it is in a folder"), Target::default());
}

/// Valid inputs.
pub fn safetensors_seeds() -> Vec<Vec<u8>> {
    let config = br#"{"hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2,
        "vocab_size": 5, "tie_word_embeddings": true, "rope_theta": 10000.0, "rms_norm_eps": 1e-5}"#;
    let weights = stored(fixture("llama_grouped.safetensors"));
    vec![[&config[..], &[0], &weights].concat()]
}

/// File names that determine the kind of a vocabulary; the first byte picks one.
const VOCABULARIES: [&str; 3] = ["tokenizer.json", "tokenizer.model", "tok512.bin"];

/// Reads a vocabulary and encodes a text with it.
pub fn tokenizer(input: &[u8]) {
    let Some((first, bytes)) = input.split_first() else { return };
    let name = VOCABULARIES[usize::from(*first) % VOCABULARIES.len()];
    encode(&scratch::write(name, bytes));
}

/// Valid inputs.
pub fn tokenizer_seeds() -> Vec<Vec<u8>> {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets");
    let document = stored(assets.join("llama_micro.tokenizer.json"));
    let pieces = stored(fixture("tokenizer/bpe.model"));
    vec![[&[0], &document[..]].concat(), [&[1], &pieces[..]].concat()]
}
