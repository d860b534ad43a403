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
