//! Tokenization: text to token ids and back, for all supported vocabulary files.
//!
//! Four file formats are supported: `tokenizer.json`, SentencePiece's `tokenizer.model`, the metadata of a GGUF
//! file, and the `tok512.bin` of small story models. All but the first are converted to the equivalent
//! `tokenizer.json` document (`document`), so that a single implementation, the crate `tokenizers`, does all
//! encoding; `sentencepiece`, `gguf` and `scored` only parse.

mod document;
mod error;
mod gguf;
mod pieces;
mod scored;
mod sentencepiece;

use std::fs;
use std::path::{Path, PathBuf};

use san_core::io::files;
use serde_json::Value;

pub use error::TokenizerError;

use crate::contained::contained;
use crate::gguf::Header;

/// Maximum size of a vocabulary file; the largest known one has 34 MB.
const MAX_BYTES: u64 = 1 << 28;

/// Ids of a model's special tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SpecialTokens {
    begin: Option<u32>,
    end: Option<u32>,
    pad: Option<u32>,
}

/// A vocabulary with its tokenization rules.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special_tokens: SpecialTokens,
    path: PathBuf,
    checksum: String,
}

impl Tokenizer {
    /// Reads the vocabulary from a model's folder or from a file, by file name: `tokenizer.json` (with
    /// `tokenizer_config.json` from the same folder, if present), `*.model`, `*.gguf`, `*.bin`.
    ///
    /// # Errors
    /// If there is none, or it is malformed or unsupported; the message names the file.
    pub fn read(path: &Path) -> Result<Self, TokenizerError> {
        if path.is_dir() {
            return Self::read(&vocabulary_of(path)?);
        }
        if path.extension().is_some_and(|extension| extension == "gguf") {
            return Self::from_gguf(&Header::read(path)?);
        }
        let bytes = read(path)?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => {
                let config = path.with_file_name("tokenizer_config.json");
                let config = if config.is_file() { Some(json(&read(&config)?, &config)?) } else { None };
                Self::from_json(&bytes, path, config.as_ref())
            }
            Some("model") => Self::from_document(path, &bytes, sentencepiece::parse(&bytes)),
            _ => Self::from_document(path, &bytes, scored::parse(&bytes)),
        }
    }

    /// Same as [`Tokenizer::read`], from the contents of a `tokenizer.json`; `path` is used in messages.
    ///
    /// # Errors
    /// If they are not such a document.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, TokenizerError> {
        Self::from_json(bytes, path, None)
    }

    /// The vocabulary in a GGUF file's metadata.
    fn from_gguf(header: &Header) -> Result<Self, TokenizerError> {
        let (document, special_tokens) = gguf::document(header)?;
        let bytes = document.to_string().into_bytes();
        Self::from_document(&header.path, &bytes, Ok((document, special_tokens)))
    }

    /// Token ids of a text, with the special tokens that the model expects (LLaMA: the start token).
    ///
    /// # Errors
    /// If the text cannot be encoded because the vocabulary has no unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.ids(text, true)
    }

    /// Token ids of a text without special tokens.
    ///
    /// # Errors
    /// Same as [`Tokenizer::encode`].
    pub fn encode_without_special_tokens(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.ids(text, false)
    }

    /// Token ids of a text with the byte range of each; if `add_special_tokens`, as in [`Tokenizer::encode`] with empty
    /// ranges for special tokens, otherwise as in [`Tokenizer::encode_without_special_tokens`].
    ///
    /// # Errors
    /// Same as [`Tokenizer::encode`].
    pub fn encode_spans(
        &self,
        text: &str,
        add_special_tokens: bool,
    ) -> Result<Vec<(u32, std::ops::Range<usize>)>, TokenizerError> {
        let encoding = self.using("encode text", |inner| inner.encode(text, add_special_tokens))?;
        let spans = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        Ok(encoding.get_ids().iter().copied().zip(spans).collect())
    }

    /// The text of a token, for example of the end token.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The text of token ids; special tokens (start, end, padding) are skipped.
    ///
    /// # Errors
    /// If the ids cannot be decoded.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.using("decode tokens", |inner| inner.decode(ids, true))
    }

    /// The start token, if the model has one.
    pub fn begin(&self) -> Option<u32> {
        self.special_tokens.begin
    }

    /// The end token, if the model has one.
    pub fn end(&self) -> Option<u32> {
        self.special_tokens.end
    }

    /// The padding token: the model's own, otherwise 0 as in LLaMA's recipes.
    pub fn pad(&self) -> u32 {
        self.special_tokens.pad.unwrap_or(0)
    }

    /// Number of tokens, including special tokens.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Rejects a vocabulary with ids outside a model of `tokens` tokens.
    ///
    /// # Errors
    /// [`TokenizerError::BeyondModel`] with the highest such id.
    pub fn fits(&self, tokens: i64) -> Result<(), TokenizerError> {
        let highest = self.inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id);
        match highest.filter(|(_, id)| i64::from(*id) >= tokens) {
            Some((token, id)) => {
                Err(TokenizerError::BeyondModel { path: self.path.clone(), token, id, tokens })
            }
            None => Ok(()),
        }
    }

    /// blake3 (hex) of the file, or of the vocabulary in it.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    /// The files, by name, from which transformers' `AutoTokenizer` and [`Tokenizer::read`] load this
    /// vocabulary.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn published(&self) -> Result<[(&'static str, String); 2], TokenizerError> {
        let document = self.using("be serialised", |inner| inner.to_string(true))?;
        let mut config = serde_json::json!({"tokenizer_class": "PreTrainedTokenizerFast"});
        let SpecialTokens { begin, end, pad } = self.special_tokens;
        for (name, id) in [("bos_token", begin), ("eos_token", end), ("pad_token", pad)] {
            if let Some(token) = id.and_then(|id| self.token(id)) {
                config[name] = token.into();
            }
        }
        Ok([("tokenizer.json", document), ("tokenizer_config.json", config.to_string())])
    }

    fn from_json(bytes: &[u8], path: &Path, config: Option<&Value>) -> Result<Self, TokenizerError> {
        // Parsed here: the library panics on a syntax error in some parts of a document.
        let document = serde_json::from_slice(bytes).map_err(|error| malformed(path, error.to_string()))?;
        let inner = without_truncation_or_padding(document, path)?;
        let special_tokens = document::special_tokens(config, |token| inner.token_to_id(token));
        Ok(Self { inner, special_tokens, path: path.to_owned(), checksum: checksum(bytes) })
    }

    fn from_document(
        path: &Path,
        bytes: &[u8],
        document: Result<(Value, SpecialTokens), String>,
    ) -> Result<Self, TokenizerError> {
        let (document, special_tokens) = document.map_err(|reason| malformed(path, reason))?;
        let inner = without_truncation_or_padding(document, path)?;
        Ok(Self { inner, special_tokens, path: path.to_owned(), checksum: checksum(bytes) })
    }

    fn ids(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.using("encode text", |inner| inner.encode_fast(text, add_special_tokens))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Calls the library, which panics on some documents whose parts contradict each other.
    fn using<T>(
        &self,
        action: &'static str,
        call: impl FnOnce(&tokenizers::Tokenizer) -> Result<T, tokenizers::Error>,
    ) -> Result<T, TokenizerError> {
        contained(|| call(&self.inner).map_err(|error| error.to_string()))
            .map_err(|reason| TokenizerError::Use { path: self.path.clone(), action, reason })
    }
}

/// The tokenizer of a document, ignoring its truncation and padding: these are settings of the run that saved it, and
/// would silently change texts here. Sequence lengths are limited by the task.
fn without_truncation_or_padding(
    document: Value,
    path: &Path,
) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let read = || {
        let mut inner: tokenizers::Tokenizer =
            serde_json::from_value(document).map_err(|error| error.to_string())?;
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        inner.with_padding(None);
        Ok(inner)
    };
    contained(read).map_err(|reason| malformed(path, reason))
}

/// The vocabulary file in a model's folder.
fn vocabulary_of(folder: &Path) -> Result<PathBuf, TokenizerError> {
    let known = ["tokenizer.json", "tokenizer.model", "tok512.bin"].map(|name| folder.join(name));
    if let Some(path) = known.into_iter().find(|path| path.is_file()) {
        return Ok(path);
    }
    let files =
        fs::read_dir(folder).map_err(|source| TokenizerError::Read { path: folder.into(), source })?;
    let paths = files.filter_map(|file| file.ok().map(|file| file.path()));
    let mut ggufs: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "gguf")).collect();
    match (ggufs.pop(), ggufs.is_empty()) {
        (Some(path), true) => Ok(path),
        _ => Err(TokenizerError::NoVocabulary { path: folder.into() }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    Ok(files::read(path, MAX_BYTES).map_err(crate::Error::from)?)
}

fn json(bytes: &[u8], path: &Path) -> Result<Value, TokenizerError> {
    serde_json::from_slice(bytes).map_err(|error| malformed(path, error.to_string()))
}

fn malformed(path: &Path, reason: String) -> TokenizerError {
    TokenizerError::Malformed { path: path.into(), reason }
}

fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
