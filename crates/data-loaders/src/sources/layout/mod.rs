//! Detects the layout of a dataset's folder by its files and reads it as samples in three parts.
//!
//! Benchmark split lists are tried first (`vtab`, `vpt`), then the original distribution (`original`), then folders and
//! tables with only parts and labels (`class_folders`, `tables`). Parts that a layout leaves open, such as a missing
//! val part, are sampled by `parts`; [`SplitOrigin`] records the difference.

pub(crate) mod class_folders;
pub(crate) mod own;
mod sheet;
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
    /// The same for train+val and test; which images of the former are val was drawn here.
    PublishedTrainVal,
    /// Lists supplied with the files, with other sizes: a custom split.
    OwnLists,
    /// The first rows of tables, in the order of the tables.
    FirstRows,
    /// Sampled here, wholly or in part, with a fixed seed.
    Seeded,
    /// A synthetic dataset.
    Synthetic,
}

impl SplitOrigin {
    /// The origin of a dataset on disk whose parts have these sizes.
    pub(crate) fn of(entry: &DatasetEntry, drawn: Drawn, counts: SplitCounts) -> Self {
        match (drawn, entry.splits) {
            (Drawn::Seeded, _) => Self::Seeded,
            (Drawn::FirstRows, _) => Self::FirstRows,
            (Drawn::Val, None) => Self::Seeded,
            (Drawn::Val, Some(published)) if published == counts => Self::PublishedTrainVal,
            (Drawn::Nothing, Some(published)) if published == counts => Self::Published,
            _ => Self::OwnLists,
        }
    }

    /// The name in all outputs: a benchmark's own only for its own lists, otherwise `... style`.
    pub fn label(self, suite: Suite) -> &'static str {
        match (self, suite) {
            (Self::Synthetic, _) => "synthetic",
            (Self::Published, Suite::Vtab) => "VTAB-1k",
            (Self::PublishedTrainVal, Suite::Vtab) => "VTAB-1k, val drawn",
            (_, Suite::Vtab) => "VTAB-1k style",
            (Self::Published, Suite::Fgvc) => "VPT",
            (_, Suite::Fgvc) => "VPT style",
            (Self::Seeded, Suite::Own) => "own, drawn by seed",
            (_, Suite::Own) => "own split",
            (Self::Published, Suite::Gic) => "GIC",
            (_, Suite::Gic) => "GIC style",
            (Self::Published, Suite::Commonsense) => "LLM-Adapters",
            (_, Suite::Commonsense) => "LLM-Adapters style",
            (Self::Published, Suite::Vl) => "LLaVA",
            (_, Suite::Vl) => "LLaVA style",
        }
    }
}

/// What was drawn here, instead of being given by lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drawn {
    /// Nothing.
    Nothing,
    /// Which images of train+val are val.
    Val,
    /// All parts that the authors do not define, from the first rows of their tables.
    FirstRows,
    /// The same with a seed.
    Seeded,
}

/// A dataset on disk.
pub(crate) struct Opened {
    /// Samples of train, val and test.
    pub(crate) parts: Pools,
    /// What was drawn here.
    pub(crate) drawn: Drawn,
    /// blake3 (hex) of the manifest.
    pub(crate) checksum: String,
}

/// A dataset on disk whose lists have been read but not its images.
pub(crate) struct Listing {
    /// Samples of train, val and test.
    pub(crate) parts: Pools,
    /// What was drawn here.
    pub(crate) drawn: Drawn,
    /// The dataset's folder.
    pub(crate) folder: PathBuf,
}

/// Opens the dataset in its folder under `root`, whatever its layout.
pub(crate) fn open(entry: &DatasetEntry, root: &Path) -> Result<Opened, DataError> {
    let Listing { parts, drawn, folder } = list(entry, root)?;
    let mut manifest = Manifest::new(&folder);
    for (part, name) in parts.iter().zip(PARTS) {
        for (sample, hash) in part.iter().zip(content_hashes(&entry.name, part)?) {
            manifest.add(name, sample, hash);
        }
    }
    let checksum = manifest.checksum();
    Ok(Opened { parts, drawn, checksum })
}

/// Reads and checks the lists of the dataset in its folder under `root`, whatever its layout.
pub(crate) fn list(entry: &DatasetEntry, root: &Path) -> Result<Listing, DataError> {
    let folder = folder_of(entry, root)?;
    let (parts, drawn) = if vtab::is_here(&folder) {
        vtab::read(entry, &folder)?
    } else if vpt::is_here(&folder) {
        (vpt::read(entry, &folder)?, Drawn::Nothing)
    } else {
        let sampled = |pools| match entry.suite {
            Suite::Own => parts::complete(entry, pools),
            _ => (parts::sample_parts(entry, pools), Drawn::Seeded),
        };
        let own_table = entry.suite == Suite::Own && sheet::is_here(&folder);
        match original::read(entry, &folder)? {
            None if own_table => sampled(sheet::read(entry, &folder)?),
            Some(pools) => sampled(pools),
            None if class_folders::is_here(&folder) => sampled(class_folders::read(entry, &folder)?),
            None if tables::is_here(&folder) => tables::read(entry, &folder)?,
            None => return Err(unknown(entry, &folder)),
        }
    };
    for (part, name) in parts.iter().zip(PARTS) {
        if part.is_empty() {
            return Err(DataError::EmptyPart { set: entry.name.clone(), part: name, path: folder });
        }
    }
    check_distinct(entry, &parts)?;
    prepare(entry, &parts)?;
    Ok(Listing { parts, drawn, folder })
}

/// The one folder of the dataset under `root`.
fn folder_of(entry: &DatasetEntry, root: &Path) -> Result<PathBuf, DataError> {
    let set = entry.name.clone();
    match <[PathBuf; 1]>::try_from(entry.folders(root)) {
        Ok([folder]) => Ok(folder),
        Err(found) if found.is_empty() => {
            Err(DataError::MissingFolder { set, path: root.join(entry.folder()) })
        }
        Err(paths) => Err(DataError::SeveralFolders { set, paths }),
    }
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
