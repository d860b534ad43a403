//! The manifest of a dataset: one line per sample with its content hash, part, label and location.
//!
//! The checksum of the manifest is the data checksum stored with every result, so a result can be traced to the exact
//! images, and two people whose checksums differ can find the difference with `diff`.

use std::path::{Path, PathBuf};

use crate::sources::sample::Sample;

/// Names of the parts, in order.
pub(crate) const PARTS: [&str; 3] = ["train", "val", "test"];

/// The manifest text under construction.
pub(crate) struct Manifest {
    folder: PathBuf,
    text: String,
}

impl Manifest {
    /// Paths are relative to the folder, so that it can be moved.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), text: String::new() }
    }

    /// Adds the line of a sample.
    pub(crate) fn add(&mut self, part: &str, sample: &Sample, hash: blake3::Hash) {
        let place = sample.place.path();
        let place = place.strip_prefix(&self.folder).unwrap_or(&place);
        self.text += &format!("{}  {part} {} {}\n", hash.to_hex(), sample.label, place.display());
    }

    /// blake3 (hex) of the text.
    pub(crate) fn checksum(&self) -> String {
        blake3::hash(self.text.as_bytes()).to_hex().to_string()
    }

    /// The text.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}
