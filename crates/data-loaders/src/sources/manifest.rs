//! A set in one text: a line for each sample with the hash of its content, its part, its label and its place.
//!
//! The checksum of this text is the data checksum that every result carries, so a result can be traced to the very
//! images, and two people whose checksums differ can find out by `diff` where.

use std::path::{Path, PathBuf};

use crate::sources::sample::Sample;

/// Names of the parts, in their order.
pub(crate) const PARTS: [&str; 3] = ["train", "val", "test"];

/// The text, as it grows.
pub(crate) struct Manifest {
    folder: PathBuf,
    text: String,
}

impl Manifest {
    /// Places are given relative to the folder, so that it may be moved.
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
