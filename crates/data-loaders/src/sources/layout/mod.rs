//! What lies in the folder of a set: the layouts are told apart by their files, and all end as samples in three parts.
//!
//! Lists made for a benchmark come first (`vtab`, `vpt`), then what the authors distribute (`original`), then folders
//! and tables that hold no more than parts and labels (`class_folders`, `tables`). Whatever a layout leaves open, the
//! val part of a set that has none for one, `split` draws; [`SplitOrigin`] keeps that apart.

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

/// Where the division into train, val and test comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitOrigin {
    /// Lists that came with the files, of the sizes that the benchmark publishes.
    Published,
    /// Lists that came with the files, of other sizes: someone's own.
    OwnLists,
    /// Drawn here, wholly or in part, by a fixed seed.
    Seeded,
    /// A drawn set.
    Drawn,
}

impl SplitOrigin {
    /// The origin of parts of these sizes of a set on disk.
    pub(crate) fn of(entry: &DatasetEntry, seeded: bool, counts: SplitCounts) -> Self {
        match entry.splits {
            _ if seeded => Self::Seeded,
            Some(published) if published == counts => Self::Published,
            _ => Self::OwnLists,
        }
    }

    /// The words for outputs: `vtab1k` is said of the benchmark's own lists only, all else is `vtab1k-style`.
    pub fn label(self, suite: Suite) -> &'static str {
        match (self, suite) {
            (Self::Drawn, _) => "drawn",
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

/// A set on disk.
pub(crate) struct Opened {
    /// Samples of train, val and test.
    pub(crate) parts: Pools,
    /// Whether a part was drawn here.
    pub(crate) seeded: bool,
    /// blake3 (hex) of the manifest.
    pub(crate) checksum: String,
}

/// A set on disk whose lists are read and whose images are not.
pub(crate) struct Listing {
    /// Samples of train, val and test.
    pub(crate) parts: Pools,
    /// Whether a part was drawn here.
    pub(crate) seeded: bool,
    /// The folder of the set.
    pub(crate) folder: PathBuf,
}

/// Opens the set in its folder under `root`, whatever its layout.
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

/// Reads and checks the lists of the set in its folder under `root`, whatever its layout.
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
        (parts::draw_parts(entry, pools), true)
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
            format!(", nor {folder}/<class>/ of its original distribution")
        }
        format => format!(", nor {} of its original distribution", original::marker(format)),
    });
    let original = marker.unwrap_or_default();
    DataError::UnknownLayout { set: entry.name.clone(), path: folder.to_owned(), original }
}

/// No file may be in two parts, nor twice in one.
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
            _ => DataError::BadFile { set, path: path.clone(), reason: "it belongs to two samples".into() },
        });
    }
    Ok(())
}

/// Lets every file of records read ahead what the parts want of it.
fn prepare(entry: &DatasetEntry, parts: &Pools) -> Result<(), DataError> {
    let mut wanted: Vec<(&Arc<dyn Records>, Vec<u64>)> = Vec::new();
    for sample in parts.iter().flatten() {
        let Place::Record(records, index) = &sample.place else { continue };
        match wanted.iter_mut().find(|(other, _)| Arc::ptr_eq(other, records)) {
            Some((_, indices)) => indices.push(*index),
            None => wanted.push((records, vec![*index])),
        }
    }
    wanted.into_iter().try_for_each(|(records, indices)| {
        records.prepare(&indices).map_err(|reason| DataError::BadFile {
            set: entry.name.clone(),
            path: records.path().to_owned(),
            reason,
        })
    })
}
