//! Reads `config.json` of a published model.

use std::path::Path;
use std::sync::Arc;

use san_core::io::files;
use serde_json::Value;

use crate::Error;
use crate::language::{LanguageArchitecture, configure};

/// Maximum size of a configuration or index file; those of the largest models have about 100 kB.
pub(super) const MAX_BYTES: u64 = 1 << 24;

/// Reads the configuration of a language model.
pub(super) fn read(path: &Path) -> Result<Arc<dyn LanguageArchitecture>, Error> {
    configure(document(path)?).map_err(|reason| Error::Configuration { path: path.into(), reason })
}

/// A configuration file as JSON.
pub(super) fn document(path: &Path) -> Result<Value, Error> {
    let text = files::read(path, MAX_BYTES)?;
    let malformed =
        |error: serde_json::Error| Error::Configuration { path: path.into(), reason: error.to_string() };
    serde_json::from_slice(&text).map_err(malformed)
}

/// The tokens that end a generated text, which instruction-tuned models have several of: from `generation_config.json`,
/// or, if there is no such file, from `config.json`, as in transformers. `None` if it names none.
///
/// # Errors
/// If the file is malformed.
pub fn generation_end_tokens(folder: &Path) -> Result<Option<Vec<i64>>, Error> {
    let files = ["generation_config.json", "config.json"].map(|name| folder.join(name));
    let Some(path) = files.iter().find(|path| path.is_file()) else { return Ok(None) };
    let malformed = |reason: &str| Error::Configuration { path: path.clone(), reason: reason.into() };
    let document = document(path)?;
    // A model that also takes images has the configuration of its language model in a section.
    let entries = [document.get("eos_token_id"), document.pointer("/text_config/eos_token_id")];
    match entries.into_iter().flatten().find(|entry| !entry.is_null()) {
        None => Ok(None),
        Some(Value::Array(tokens)) => {
            let tokens: Option<Vec<i64>> = tokens.iter().map(Value::as_i64).collect();
            tokens.map(Some).ok_or_else(|| malformed("`eos_token_id` lists something other than token ids"))
        }
        Some(token) => {
            let token = token.as_i64().ok_or_else(|| malformed("`eos_token_id` is not a token id"))?;
            Ok(Some(vec![token]))
        }
    }
}
