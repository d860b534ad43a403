//! Tokenizer errors.

use std::path::PathBuf;

/// An error in a tokenizer's files, or a text that it cannot encode.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "every field is named in the message of its variant")]
pub enum TokenizerError {
    /// A folder could not be listed.
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A folder contains none of the supported files.
    #[error("{} contains no vocabulary: expected tokenizer.json, tokenizer.model, tok512.bin or a single .gguf file", path.display())]
    NoVocabulary { path: PathBuf },
    /// A file is malformed or of an unsupported kind.
    #[error("{} is not a usable vocabulary: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    /// The vocabulary has an id beyond the model's vocabulary size.
    #[error("{} gives `{token}` the id {id}, but its model has {tokens} tokens", path.display())]
    BeyondModel { path: PathBuf, token: String, id: u32, tokens: i64 },
    /// A file cannot be read, or the header of a GGUF file is invalid.
    #[error(transparent)]
    File(#[from] crate::Error),
    /// A text cannot be encoded, or tokens cannot be decoded.
    #[error("{} cannot {action}: {reason}", path.display())]
    Use { path: PathBuf, action: &'static str, reason: String },
}
