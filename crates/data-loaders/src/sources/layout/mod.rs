//! Detects the layout of a dataset's folder by its files and reads it as samples in three parts.
//!
//! Benchmark split lists are tried first (`vtab`, `vpt`), then the original distribution (`original`), then folders and
//! tables with only parts and labels (`class_folders`, `tables`). Parts that a layout leaves open, such as a missing
//! val part, are sampled by `parts`; [`SplitOrigin`] records the difference.

pub(crate) mod class_folders;
mod tables;
mod vpt;
mod vtab;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::DataError;
use crate::registry::{DatasetEntry, OriginalFormat, Suite};
use crate::sources::manifest::{Manifest, PARTS};
use crate::sources::original;
use crate::sources::parts::{self, Pools};
use crate::sources::sample::{Place, Records, Sample, content_hashes};
use crate::split::SplitCounts;

/// Origin of the train/val/test split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitOrigin {
    /// Lists supplied with the files, with the sizes that the benchmark publishes.
    Published,
    /// Lists supplied with the files, with other sizes: a custom split.
    OwnLists,
    /// Sampled here, wholly or in part, with a fixed seed.
    Seeded,
    /// A synthetic dataset.
    Synthetic,
}

impl SplitOrigin {
    /// The origin of a dataset on disk whose parts have these sizes.
    pub(crate) fn of(entry: &DatasetEntry, seeded: bool, counts: SplitCounts) -> Self {
        match entry.splits {
            _ if seeded => Self::Seeded,
            Some(published) if published == counts => Self::Published,
            _ => Self::OwnLists,
        }
    }

    /// The label for outputs: `vtab1k` is used only for the benchmark's own lists, otherwise `vtab1k-style`.
    pub fn label(self, suite: Suite) -> &'static str {
        match (self, suite) {
            (Self::Synthetic, _) => "synthetic",
            (Self::Published, Suite::Vtab) => "vtab1k",
            (_, Suite::Vtab) => "vtab1k-style",
            (Self::Published, Suite::Fgvc) => "vpt",
            (_, Suite::Fgvc) => "vpt-style",
            (Self::Published, Suite::Gic) => "gic",
            (_, Suite::Gic) => "gic-style",
            (Self::Published, Suite::Commonsense) => "llm-adapters",
            (_, Suite::Commonsense) => "llm-adapters-style",
            (Self::Published, Suite::Vl) => "llava",
            (_, Suite::Vl) => "llava-style",
        }
    }
}

/// A dataset on disk.
pub(crate) struct Opened {
    /// Samples of train, val and test.
    pub(crate) parts: Pools,
    /// Whether a part was sampled here.
    pub(crate) seeded: bool,
    /// blake3 (hex) of the manifest.
    pub(crate) checksum: String,
}

/// A dataset on disk whose lists have been read but not its images.
pub(crate) struct Listing {
    /// Samples of train, val and test.
    pub(crate) parts: Pools,
    /// Whether a part was sampled here.
    pub(crate) seeded: bool,
    /// The dataset's folder.
    pub(crate) folder: PathBuf,
}

/// Opens the dataset in its folder under `root`, whatever its layout.
pub(crate) fn open(entry: &DatasetEntry, root: &Path) -> Result<Opened, DataError> {
    let Listing { parts, seeded, folder } = list(entry, root)?;
    let mut manifest = Manifest::new(&folder);
    for (part, name) in parts.iter().zip(PARTS) {
        for (sample, hash) in part.iter().zip(content_hashes(&entry.name, part)?) {
            manifest.add(name, sample, hash);
        }
    }
    let checksum = manifest.checksum();
    Ok(Opened { parts, seeded, checksum })
}

/// Reads and checks the lists of the dataset in its folder under `root`, whatever its layout.
pub(crate) fn list(entry: &DatasetEntry, root: &Path) -> Result<Listing, DataError> {
    let folder = root.join(entry.folder());
    if !folder.is_dir() {
        return Err(DataError::MissingFolder { set: entry.name.clone(), path: folder });
    }
    let (parts, seeded) = if vtab::is_here(&folder) {
        (vtab::read(entry, &folder)?, false)
    } else if vpt::is_here(&folder) {
        (vpt::read(entry, &folder)?, false)
    } else {
        let pools = match original::read(entry, &folder)? {
            Some(pools) => pools,
            None if class_folders::is_here(&folder) => class_folders::read(entry, &folder)?,
            None if tables::is_here(&folder) => tables::read(entry, &folder)?,
            None => return Err(unknown(entry, &folder)),
        };
        (parts::sample_parts(entry, pools), true)
    };
    for (part, name) in parts.iter().zip(PARTS) {
        if part.is_empty() {
            return Err(DataError::EmptyPart { set: entry.name.clone(), part: name, path: folder });
        }
    }
    check_distinct(entry, &parts)?;
    prepare(entry, &parts)?;
    Ok(Listing { parts, seeded, folder })
}

fn unknown(entry: &DatasetEntry, folder: &Path) -> DataError {
    let marker = entry.original.as_ref().map(|original| match &original.format {
        OriginalFormat::ClassFolders { folder } => {
            format!(", or {folder}/<class>/ of its original distribution")
        }
        format => format!(", or {} of its original distribution", original::marker(format)),
    });
    let original = marker.unwrap_or_default();
    DataError::UnknownLayout { set: entry.name.clone(), path: folder.to_owned(), original }
}

/// Checks that no file is in two parts, or twice in one.
fn check_distinct(entry: &DatasetEntry, parts: &Pools) -> Result<(), DataError> {
    let mut seen: HashMap<&Path, &Sample> = HashMap::new();
    for sample in parts.iter().flatten() {
        let Place::File(path) = &sample.place else { continue };
        let Some(other) = seen.insert(path, sample) else { continue };
        let (set, image) = (entry.name.clone(), path.display().to_string());
        return Err(match (&sample.listed, &other.listed) {
            (Some(here), Some(there)) => DataError::RepeatedImage {
                set,
                path: here.list.to_path_buf(),
                line: here.line,
                image,
                other: format!("{}:{}", there.list.display(), there.line),
            },
            _ => DataError::BadFile { set, path: path.clone(), reason: "it occurs in two samples".into() },
        });
    }
    Ok(())
}

/// Lets every record file read the records that the parts need in advance.
fn prepare(entry: &DatasetEntry, parts: &Pools) -> Result<(), DataError> {
    let mut requested: Vec<(&Arc<dyn Records>, Vec<u64>)> = Vec::new();
    for sample in parts.iter().flatten() {
        let Place::Record(records, index) = &sample.place else { continue };
        match requested.iter_mut().find(|(other, _)| Arc::ptr_eq(other, records)) {
            Some((_, indices)) => indices.push(*index),
            None => requested.push((records, vec![*index])),
        }
    }
    requested.into_iter().try_for_each(|(records, indices)| {
        records.prepare(&indices).map_err(|reason| DataError::BadFile {
            set: entry.name.clone(),
            path: records.path().to_owned(),
            reason,
        })
    })
}
