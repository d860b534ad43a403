//! Verifies every image of a dataset before training: missing files, undecodable files, duplicates, and counts that
//! differ from the registry. Paths and labels have already been checked when the lists were read.
//!
//! Each file is read once; its hash goes into the manifest, its pixels are decoded and dropped.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::error::DataError;
use crate::registry::DatasetEntry;
use crate::sources::layout::{self, Listing, SplitOrigin};
use crate::sources::manifest::{Manifest, PARTS};
use crate::sources::sample::decode;
use crate::sources::sample::{Fault, Sample};
use crate::split::SplitCounts;

/// Maximum number of duplicates and faults listed in a summary.
const MAX_LISTED: usize = 10;

/// The result of verifying a dataset.
#[derive(Debug)]
pub struct Verification {
    /// Name of the dataset.
    pub set: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Origin of its split.
    pub origin: SplitOrigin,
    /// Its label in outputs.
    pub origin_label: &'static str,
    /// Number of images in each part.
    pub counts: SplitCounts,
    /// The counts in the registry.
    pub published: Option<SplitCounts>,
    /// Images that are missing or cannot be used.
    pub faults: Vec<DataError>,
    /// Pairs of samples with the same content.
    pub duplicates: Vec<Duplicate>,
    /// One line per readable sample: blake3 of its content, part, label, location.
    pub manifest: String,
    /// blake3 (hex) of the manifest; stored with results.
    pub checksum: String,
}

/// Two samples with the same content; the first occurrence and a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// Their parts.
    pub parts: [&'static str; 2],
    /// Their locations.
    pub images: [String; 2],
    /// Their labels.
    pub labels: [u32; 2],
}

impl Verification {
    /// Whether every image is usable; duplicates and differing counts are reported but are not faults.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// Duplicates with exactly one of the pair in the test part.
    pub fn leaks(&self) -> impl Iterator<Item = &Duplicate> {
        self.duplicates.iter().filter(|pair| pair.parts.iter().filter(|part| **part == "test").count() == 1)
    }
}

/// Opens the dataset under `root`, decodes every image and compares it with the registry.
///
/// # Errors
/// What is wrong with its lists: see [`DataError`]. All images that are missing or cannot be decoded are listed in
/// [`Verification::faults`].
pub fn verify(entry: &DatasetEntry, root: &Path) -> Result<Verification, DataError> {
    verify_watched(entry, root, &|_, _| ())
}

/// As [`verify`]; `watch` is called, from many threads, with the number of images checked and the total.
///
/// # Errors
/// As [`verify`].
pub fn verify_watched(
    entry: &DatasetEntry,
    root: &Path,
    watch: &(dyn Fn(usize, usize) + Sync),
) -> Result<Verification, DataError> {
    let Listing { parts, drawn, folder } = layout::list(entry, root)?;
    let (mut manifest, mut faults, mut seen) = (Manifest::new(&folder), Vec::new(), Seen::default());
    let (done, total) = (AtomicUsize::new(0), parts.iter().map(Vec::len).sum());
    for (samples, part) in parts.iter().zip(PARTS) {
        let inspections = samples.par_iter().map(|sample| {
            let inspect = inspect(&entry.name, sample);
            watch(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            inspect
        });
        for (sample, (hash, fault)) in samples.iter().zip(inspections.collect::<Vec<_>>()) {
            if let Some(hash) = hash {
                manifest.add(part, sample, hash);
                seen.add(part, sample, hash);
            }
            faults.extend(fault);
        }
    }
    let [train, val, test] = parts.each_ref().map(Vec::len);
    let counts = SplitCounts { train, val, test };
    let origin = SplitOrigin::of(entry, drawn, counts);
    Ok(Verification {
        set: entry.name.clone(),
        folder,
        origin,
        origin_label: origin.label(entry.suite),
        counts,
        published: entry.splits,
        faults,
        duplicates: seen.duplicates,
        checksum: manifest.checksum(),
        manifest: manifest.into_text(),
    })
}

/// The hash of a sample's content, if it could be read, and its fault, if any.
fn inspect(set: &str, sample: &Sample) -> (Option<blake3::Hash>, Option<DataError>) {
    let content = match sample.place.content() {
        Ok(content) => content,
        Err(fault) => return (None, Some(sample.error(set, fault))),
    };
    let hash = content.hash();
    let fault = decode(content).err().map(|reason| sample.error(set, Fault::Bad(reason)));
    (Some(hash), fault)
}

/// The first sample of each content, and the pairs that later ones form with it.
#[derive(Default)]
struct Seen<'a> {
    first: HashMap<blake3::Hash, (&'static str, &'a Sample)>,
    duplicates: Vec<Duplicate>,
}

impl<'a> Seen<'a> {
    fn add(&mut self, part: &'static str, sample: &'a Sample, hash: blake3::Hash) {
        let (other_part, other) = *self.first.entry(hash).or_insert((part, sample));
        if !std::ptr::eq(other, sample) {
            self.duplicates.push(Duplicate {
                parts: [other_part, part],
                images: [other.place.to_string(), sample.place.to_string()],
                labels: [other.label, sample.label],
            });
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SplitCounts { train, val, test } = self.counts;
        writeln!(formatter, "{}: {train} / {val} / {test} images ({})", self.set, self.origin_label)?;
        if let Some(published) = self.published.filter(|published| *published != self.counts) {
            let SplitCounts { train, val, test } = published;
            writeln!(formatter, "  the registry lists {train} / {val} / {test}")?;
        }
        writeln!(formatter, "  data checksum {}", self.checksum)?;
        for fault in self.faults.iter().take(MAX_LISTED) {
            writeln!(formatter, "  fault: {fault}")?;
        }
        if self.faults.len() > MAX_LISTED {
            writeln!(formatter, "  and {} more faults", self.faults.len() - MAX_LISTED)?;
        }
        if !self.duplicates.is_empty() {
            let leaks = self.leaks().count();
            let total = self.duplicates.len();
            writeln!(formatter, "  {total} duplicate images, {leaks} of them in test and another split")?;
        }
        for Duplicate { parts, images, labels } in self.duplicates.iter().take(MAX_LISTED) {
            let [one, other] = [0, 1].map(|n| format!("{} ({}, label {})", images[n], parts[n], labels[n]));
            writeln!(formatter, "  duplicate: {one} and {other}")?;
        }
        Ok(())
    }
}
