//! The vocabulary in a GGUF file's metadata (`tokenizer.ggml.*`): scored pieces (`llama`) or bytes with merges
//! (`gpt2`), the latter with one of several named pre-tokenizers.

use serde_json::{Value, json};

use crate::gguf::Header;
use crate::tokenizer::document::{ByteLevel, Words, from_byte_level, from_pieces};
use crate::tokenizer::pieces::{Piece, PieceKind};
use crate::tokenizer::{SpecialTokens, TokenizerError};

/// LLaMA 3's pre-tokenizer pattern.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Qwen2's: LLaMA 3's with single digits.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The document and the special tokens.
pub(super) fn document(header: &Header) -> Result<(Value, SpecialTokens), TokenizerError> {
    let tokens = header.texts("tokenizer.ggml.tokens")?;
    let kinds = kinds(header, tokens.len())?;
    let special = |name: &str| {
        let id = header.unsigned(&format!("tokenizer.ggml.{name}_token_id")).ok()?;
        u32::try_from(id).ok().filter(|id| (*id as usize) < tokens.len())
    };
    let special_tokens =
        SpecialTokens { begin: special("bos"), end: special("eos"), pad: special("padding") };
    let model = header.text("tokenizer.ggml.model")?;
    // Absent flags default to the model type's behaviour: LLaMA adds a start token and a space before the text.
    let flag = |name: &str| {
        let key = format!("tokenizer.ggml.{name}");
        if header.metadata.contains_key(&key) { header.flag(&key) } else { Ok(model == "llama") }
    };
    let begin = if flag("add_bos_token")? { special_tokens.begin } else { None };
    let document = match model {
        "llama" => {
            let scores = header.numbers("tokenizer.ggml.scores")?;
            if scores.len() != tokens.len() {
                return Err(malformed(
                    header,
                    format!("it has {} scores for {} tokens", scores.len(), tokens.len()),
                ));
            }
            let pieces = tokens.iter().zip(scores).zip(kinds);
            let pieces: Vec<Piece> =
                pieces.map(|((text, score), kind)| Piece { text: (*text).to_owned(), score, kind }).collect();
            from_pieces(&pieces, flag("add_space_prefix")?, begin)
        }
        "gpt2" => {
            let words = words(header)?;
            let merges = header.texts("tokenizer.ggml.merges")?;
            if let Some(index) = merges.iter().position(|merge| !merge.contains(' ')) {
                return Err(malformed(header, format!("merge {index} is not a pair of tokens")));
            }
            let merges = merges.into_iter().filter_map(|merge| merge.split_once(' ')).collect();
            let tokens = tokens.into_iter().zip(kinds).collect();
            from_byte_level(&ByteLevel { tokens, merges, words }, begin)
        }
        other => Err(format!("its vocabulary type is `{other}`; `llama` and `gpt2` are supported")),
    };
    Ok((document.map_err(|reason| malformed(header, reason))?, special_tokens))
}

/// The kind of each token; normal text if there is no list.
fn kinds(header: &Header, count: usize) -> Result<Vec<PieceKind>, TokenizerError> {
    let key = "tokenizer.ggml.token_type";
    if !header.metadata.contains_key(key) {
        return Ok(vec![PieceKind::Normal; count]);
    }
    let numbers = header.numbers(key)?;
    let kinds: Option<Vec<_>> = numbers.iter().map(|number| PieceKind::from_number(*number as u64)).collect();
    let kinds = kinds.filter(|kinds| kinds.len() == count);
    kinds.ok_or_else(|| {
        malformed(header, format!("`{key}` does not give each of {count} tokens a known type"))
    })
}

/// How text is split into words before merging.
fn words(header: &Header) -> Result<Words, TokenizerError> {
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let after =
        |first: Value, use_regex| json!({"type": "Sequence", "pretokenizers": [first, bytes(use_regex)]});
    // Older files lack this key; they use GPT-2's pre-tokenizer.
    let name = if header.metadata.contains_key("tokenizer.ggml.pre") {
        header.text("tokenizer.ggml.pre")?
    } else {
        "gpt-2"
    };
    let split = |pattern| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let plain = |pre_tokenizer| Words { normalizer: Value::Null, pre_tokenizer, ignore_merges: false };
    Ok(match name {
        "gpt-2" | "default" => plain(bytes(true)),
        "smollm" => plain(after(json!({"type": "Digits", "individual_digits": true}), true)),
        "llama-bpe" | "llama3" => Words { ignore_merges: true, ..plain(after(split(LLAMA3), false)) },
        "qwen2" => Words { normalizer: json!({"type": "NFC"}), ..plain(after(split(QWEN2), false)) },
        other => {
            let supported = "gpt-2, smollm, llama-bpe and qwen2";
            return Err(malformed(
                header,
                format!("its pre-tokenizer is `{other}`; {supported} are supported"),
            ));
        }
    })
}

fn malformed(header: &Header, reason: String) -> TokenizerError {
    TokenizerError::File(header.malformed(reason))
}
