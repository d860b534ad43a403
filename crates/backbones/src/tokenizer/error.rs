//! What can be wrong with a vocabulary.

use std::path::PathBuf;

/// A fault of a tokenizer's files, or of a text that it cannot encode.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "every field is named in the message of its variant")]
pub enum TokenizerError {
    /// The operating system refused to list a folder.
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A folder holds none of the known files.
    #[error("{} holds no vocabulary: none of tokenizer.json, tokenizer.model, one .gguf, tok512.bin", path.display())]
    NoVocabulary { path: PathBuf },
    /// A file is not what its name says, or of a kind that is not read.
    #[error("{} is no usable vocabulary: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    /// A vocabulary has more ids than its model has tokens.
    #[error("{} gives `{token}` the id {id}, and its model has {tokens} tokens", path.display())]
    BeyondModel { path: PathBuf, token: String, id: u32, tokens: i64 },
    /// A file cannot be read, or the header of a GGUF file cannot be used.
    #[error(transparent)]
    File(#[from] san_core::Error),
    /// A text has no tokens, or tokens no text.
    #[error("{} cannot {action}: {reason}", path.display())]
    Use { path: PathBuf, action: &'static str, reason: String },
}
