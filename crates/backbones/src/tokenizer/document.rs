//! Builds the contents of a `tokenizer.json` from vocabularies in other formats.

use serde_json::{Map, Value, json};

use crate::tokenizer::SpecialTokens;
use crate::tokenizer::pieces::{Piece, PieceKind, merges};

/// SentencePiece's symbol for a space.
pub(super) const BLANK: &str = "\u{2581}";

/// A byte-level vocabulary (as in GPT-2): tokens in the byte alphabet, merges in order.
pub(super) struct ByteLevel<'a> {
    /// Tokens and their kinds, by id.
    pub(super) tokens: Vec<(&'a str, PieceKind)>,
    /// Merges, highest priority first.
    pub(super) merges: Vec<(&'a str, &'a str)>,
    /// How text is split into words, within which pairs are merged.
    pub(super) words: Words,
}

/// How a byte-level vocabulary splits a text.
pub(super) struct Words {
    /// Unicode normalisation.
    pub(super) normalizer: Value,
    /// How normalised text is split.
    pub(super) pre_tokenizer: Value,
    /// Whether a word that is itself a token is used directly, without merges.
    pub(super) ignore_merges: bool,
}

/// The document of scored pieces under LLaMA's rules (pairs are merged, highest score first): a space before
/// the text, spaces as U+2581, byte fallback. With `begin`, that token is added before each text.
///
/// # Errors
/// If there is no piece for unknown characters, or no piece at all; the error is a clause.
pub(super) fn from_pieces(pieces: &[Piece], prefix: bool, begin: Option<u32>) -> Result<Value, String> {
    let unknown = pieces.iter().position(|piece| piece.kind == PieceKind::Unknown);
    let unknown = unknown.ok_or("it has no unknown piece")?;
    let byte_fallback = pieces.iter().filter(|piece| piece.kind == PieceKind::Byte).count() == 256;
    let vocab: Map<String, Value> =
        pieces.iter().zip(0_u32..).map(|(piece, id)| (piece.text.clone(), id.into())).collect();
    if vocab.len() != pieces.len() {
        return Err(format!("{} of its {} pieces are duplicates", pieces.len() - vocab.len(), pieces.len()));
    }
    let model = json!({"type": "BPE", "unk_token": pieces[unknown].text, "fuse_unk": true,
        "byte_fallback": byte_fallback, "vocab": vocab, "merges": merges(pieces)});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": BLANK});
    let mut normalizers = vec![replace];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": BLANK}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": BLANK}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let tokens = pieces.iter().map(|piece| (piece.text.as_str(), piece.kind));
    Ok(json!({
        "version": "1.0",
        "added_tokens": added(tokens),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": post_processor(begin.and_then(|id| Some((id, pieces.get(id as usize)?.text.as_str())))),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model,
    }))
}

/// The document of a byte-level vocabulary. With `begin`, that token is added before each text.
///
/// # Errors
/// If a token occurs twice; the error is a clause.
pub(super) fn from_byte_level(vocabulary: &ByteLevel<'_>, begin: Option<u32>) -> Result<Value, String> {
    let ByteLevel { tokens, merges, words: Words { normalizer, pre_tokenizer, ignore_merges } } = vocabulary;
    let vocab: Map<String, Value> =
        tokens.iter().zip(0_u32..).map(|((token, _), id)| ((*token).to_owned(), id.into())).collect();
    if vocab.len() != tokens.len() {
        return Err(format!("{} of its {} tokens are duplicates", tokens.len() - vocab.len(), tokens.len()));
    }
    Ok(json!({
        "version": "1.0",
        "added_tokens": added(tokens.iter().copied()),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor(begin.and_then(|id| Some((id, tokens.get(id as usize)?.0)))),
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "fuse_unk": false, "byte_fallback": false, "ignore_merges": ignore_merges,
            "vocab": vocab, "merges": merges},
    }))
}

/// Added tokens: matched in a text before any other processing.
fn added<'a>(tokens: impl Iterator<Item = (&'a str, PieceKind)>) -> Vec<Value> {
    let entry = |((text, kind), id): ((&str, PieceKind), u32)| {
        let special = matches!(kind, PieceKind::Control | PieceKind::Unknown);
        (special || kind == PieceKind::UserDefined).then(|| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special})
        })
    };
    tokens.zip(0..).filter_map(entry).collect()
}

/// Adds a token before each text.
fn post_processor(begin: Option<(u32, &str)>) -> Value {
    let Some((id, token)) = begin else { return Value::Null };
    let special = |sequence| json!({"SpecialToken": {"id": token, "type_id": sequence}});
    let text = |name, sequence| json!({"Sequence": {"id": name, "type_id": sequence}});
    json!({"type": "TemplateProcessing", "single": [special(0), text("A", 0)],
        "pair": [special(0), text("A", 0), special(1), text("B", 1)],
        "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}}})
}

/// The special tokens of a `tokenizer.json`, which does not specify them itself: taken from
/// `tokenizer_config.json`, otherwise the first of the common spellings in the vocabulary.
pub(super) fn special_tokens(config: Option<&Value>, id: impl Fn(&str) -> Option<u32>) -> SpecialTokens {
    let named = |key: &str| {
        let entry = config?.get(key)?;
        id(entry.as_str().or_else(|| entry.get("content")?.as_str())?)
    };
    let common = |tokens: &[&str]| match config {
        Some(_) => None,
        None => tokens.iter().find_map(|token| id(token)),
    };
    SpecialTokens {
        begin: named("bos_token").or_else(|| common(&["<s>", "<|begin_of_text|>"])),
        end: named("eos_token").or_else(|| common(&["</s>", "<|end_of_text|>", "<|endoftext|>"])),
        pad: named("pad_token").or_else(|| common(&["<pad>"])),
    }
}
