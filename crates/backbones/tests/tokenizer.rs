//! Token ids compared with other implementations on difficult texts and real rows, and malformed vocabularies.
//!
//! `tools/tokenizer_fixtures.py` wrote the ids: transformers' for SentencePiece's BPE, `tokenizer.json` and
//! SmolLM2's GGUF, and llama2.c's algorithm for `tok512.bin`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::fs;
use std::path::{Path, PathBuf};

use backbones::tokenizer::Tokenizer;
use serde_json::Value;
use sha2::{Digest, Sha256};

const SETS: [&str; 8] =
    ["boolq", "piqa", "social_i_qa", "hellaswag", "winogrande", "ARC-Easy", "ARC-Challenge", "openbookqa"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer").join(name)
}

fn asset() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/llama_micro.tokenizer.json")
}

/// A file under the folder given by an environment variable, if it exists.
fn under(variable: &str, file: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(|folder| Path::new(&folder).join(file));
    let path = path.filter(|path| path.exists());
    if path.is_none() {
        skipped::report(format_args!("no {file} under {variable}"));
    }
    path
}

fn ids() -> Value {
    serde_json::from_slice(&fs::read(fixture("ids.json")).unwrap()).unwrap()
}

/// The training texts of 125 rows of each test set.
fn real_texts() -> Option<Vec<String>> {
    let root = under("SAN_DATA", "commonsense")?;
    let indent = " ".repeat(16);
    let mut texts = Vec::new();
    for set in SETS {
        let rows: Vec<Value> =
            serde_json::from_slice(&fs::read(root.join(set).join("test.json")).unwrap()).unwrap();
        texts.extend(rows[..125].iter().map(|row| {
            let text = |field: &str| row[field].as_str().unwrap();
            format!(
                "Below is an instruction that describes a task. Write a response that appropriately completes the \
                 request.  \n\n{indent}### Instruction:\n{indent}{}\n{indent}\n{indent}### Response:\n{indent}{}",
                text("instruction"),
                text("output")
            )
        }));
    }
    Some(texts)
}

fn digest(ids: &[u32]) -> String {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    Sha256::digest(bytes)[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares a vocabulary with the stored ids.
fn compare(name: &str, tokenizer: &Tokenizer) {
    let ids = ids();
    let expected = &ids["vocabularies"][name];
    for (text, expected) in ids["hard"].as_array().unwrap().iter().zip(expected["hard"].as_array().unwrap()) {
        let text = text.as_str().unwrap();
        if expected.is_null() {
            continue;
        }
        assert_eq!(serde_json::json!(tokenizer.encode(text).unwrap()), *expected, "{name}: {text:?}");
    }
    let Some(texts) = real_texts() else { return };
    assert_eq!(texts.len(), 1000);
    let expected = expected["rows"].as_str().unwrap();
    for (row, text) in texts.iter().enumerate() {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(digest(&ids), expected[8 * row..8 * (row + 1)], "{name}: row {row}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), *text, "{name}: row {row}");
    }
}

#[test]
fn sentencepiece_bpe_matches_transformers_and_sentencepiece() {
    let tokenizer = Tokenizer::read(&fixture("bpe.model")).unwrap();
    assert_eq!((tokenizer.begin(), tokenizer.end(), tokenizer.pad()), (Some(1), Some(2), 0));
    compare("bpe", &tokenizer);
    compare("bpe by sentencepiece", &tokenizer);
}

#[test]
fn the_bundled_vocabulary_matches_transformers() {
    let tokenizer = Tokenizer::read(&asset()).unwrap();
    assert_eq!((tokenizer.begin(), tokenizer.end()), (Some(1), Some(2)));
    assert!(tokenizer.vocabulary_size() <= 1024);
    compare("llama_micro", &tokenizer);
}

#[test]
fn a_post_processor_that_names_a_token_it_does_not_define_is_an_error() {
    let mut document: Value = serde_json::from_slice(&fs::read(asset()).unwrap()).unwrap();
    document["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {},
    });
    // The library panics on it.
    let parsed = Tokenizer::parse(document.to_string().as_bytes(), Path::new("tokenizer.json"));
    let error = parsed.and_then(|tokenizer| tokenizer.encode("a text")).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("inconsistent"), "{error}");
}

#[test]
fn truncation_and_padding_in_a_vocabulary_file_are_ignored() {
    let mut document: Value = serde_json::from_slice(&fs::read(asset()).unwrap()).unwrap();
    let plain = Tokenizer::read(&asset()).unwrap();
    document["truncation"] = serde_json::json!(
        {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    document["padding"] = serde_json::json!(
        {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
         "pad_type_id": 0, "pad_token": "<unk>"});
    let saved = Tokenizer::parse(document.to_string().as_bytes(), Path::new("tokenizer.json")).unwrap();
    for text in ["", "a text of many more than four tokens"] {
        assert_eq!(saved.encode(text).unwrap(), plain.encode(text).unwrap());
        assert_eq!(
            saved.encode_without_special_tokens(text).unwrap(),
            plain.encode_without_special_tokens(text).unwrap()
        );
        assert_eq!(saved.encode_spans(text, true).unwrap(), plain.encode_spans(text, true).unwrap());
    }
}

#[test]
fn tok512_matches_llama2c_and_decodes_the_stored_story() {
    let Some(folder) = under("SAN_WEIGHTS", "stories260K") else { return };
    let tokenizer = Tokenizer::read(&folder).unwrap();
    assert_eq!(tokenizer.vocabulary_size(), 512);
    compare("stories260K", &tokenizer);
    let greedy: Value = serde_json::from_slice(&fs::read(folder.join("greedy.json")).unwrap()).unwrap();
    let ids: Vec<u32> =
        greedy["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    assert_eq!(tokenizer.decode(&ids).unwrap().trim(), greedy["text"].as_str().unwrap().trim());
}

#[test]
fn the_gguf_vocabulary_of_smollm2_matches_transformers() {
    let Some(path) = under("SAN_WEIGHTS", "SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf") else {
        return;
    };
    let tokenizer = Tokenizer::read(&path).unwrap();
    assert_eq!(tokenizer.vocabulary_size(), 49_152);
    compare("smollm2", &tokenizer);
}

#[test]
fn a_prompt_with_its_answer_starts_with_the_tokens_of_the_prompt() {
    let tokenizer = Tokenizer::read(&asset()).unwrap();
    let prompt = format!("### Response:\n{}", " ".repeat(16));
    let whole = tokenizer.encode(&format!("{prompt}the correct answer is answer2")).unwrap();
    assert!(whole.starts_with(&tokenizer.encode(&prompt).unwrap()));
    assert_eq!(
        tokenizer.encode_without_special_tokens(&prompt).unwrap(),
        tokenizer.encode(&prompt).unwrap()[1..]
    );
}

#[test]
fn the_qwen2_vocabulary_matches_transformers_from_a_folder_and_from_gguf() {
    let folder = Tokenizer::read(&fixture("qwen2")).unwrap();
    assert_eq!((folder.begin(), folder.end()), (None, folder.pad().into()));
    assert_eq!(folder.token(folder.pad()).as_deref(), Some("<|endoftext|>"));
    compare("qwen2", &folder);
    let gguf = Tokenizer::read(&fixture("../qwen2_small.gguf")).unwrap();
    assert_eq!((gguf.begin(), gguf.end()), (None, folder.end()));
    compare("qwen2", &gguf);
}

/// The error message for a file with this content.
fn message(name: &str, content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let message = Tokenizer::read(&path).unwrap_err().to_string();
    assert!(message.contains(name), "{message}");
    message
}

#[test]
fn a_malformed_vocabulary_gives_a_clear_message() {
    let model = fs::read(fixture("bpe.model")).unwrap();
    for cut in [1, 7, 100, model.len() / 2, model.len() - 3] {
        assert!(message("tokenizer.model", &model[..cut]).contains("truncated"), "{cut}");
    }
    assert!(message("tokenizer.model", b"").contains("contains no pieces"));
    assert!(message("tokenizer.model", b"{\"version\": 1}").contains("not a SentencePiece model"));
    let json = fs::read(asset()).unwrap();
    message("tokenizer.json", &json[..json.len() / 2]);
    // The library panics on a syntax error in the part `decoder`.
    let decoder = json.windows(9).position(|window| window == b"\"decoder\"").unwrap();
    message("tokenizer.json", &json[..decoder + 20]);
    message("tokenizer.json", b"{}");
    assert!(message("tok512.bin", &[4, 0, 0, 0, 1, 2]).contains("truncated"));
    assert!(message("tok512.bin", &[4, 0, 0, 0]).contains("0 tokens"));
    let folder = tempfile::tempdir().unwrap();
    let none = Tokenizer::read(folder.path()).unwrap_err().to_string();
    assert!(none.contains("contains no vocabulary"), "{none}");
}

#[test]
fn a_vocabulary_larger_than_its_model_is_rejected_with_both_sizes() {
    let tokenizer = Tokenizer::read(&asset()).unwrap();
    let count = i64::try_from(tokenizer.vocabulary_size()).unwrap();
    tokenizer.fits(count).unwrap();
    let message = tokenizer.fits(count - 1).unwrap_err().to_string();
    assert!(message.contains("llama_micro.tokenizer.json gives `"), "{message}");
    assert!(message.ends_with(&format!("the id {}, but its model has {} tokens", count - 1, count - 1)));
}

#[test]
fn normalisations_and_algorithms_other_than_those_of_llama_are_rejected() {
    // Field 2 (trainer) with field 3 = 1 (unigram) or 4 (characters); field 3 (normaliser) with field 4 = 1
    // (collapse spaces).
    let model = fs::read(fixture("bpe.model")).unwrap();
    let with = |bytes: &[u8]| message("tokenizer.model", &[model.as_slice(), bytes].concat());
    assert!(with(&[0x12, 2, 0x18, 1]).contains("algorithm is 1"));
    assert!(with(&[0x12, 2, 0x18, 4]).contains("algorithm is 4"));
    assert!(with(&[0x1a, 2, 0x20, 1]).contains("normalisation"));
}

#[test]
fn special_tokens_of_a_tokenizer_json_come_from_its_config() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(asset(), folder.path().join("tokenizer.json")).unwrap();
    let config = r#"{"bos_token": {"content": "</s>"}, "eos_token": "<unk>", "pad_token": null}"#;
    fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    let tokenizer = Tokenizer::read(folder.path()).unwrap();
    assert_eq!((tokenizer.begin(), tokenizer.end(), tokenizer.pad()), (Some(2), Some(0), 0));
}
