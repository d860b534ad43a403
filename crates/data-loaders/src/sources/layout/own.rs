//! A folder of images without an entry in the registry: its layout is recognised by its files, and its classes are
//! counted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::error::DataError;
use crate::io::files;
use crate::registry::{ClassNames, DatasetEntry, Original, OriginalFormat, PoolCounts};
use crate::sources::formats::parquet::{Columns, ParquetRecords};
use crate::sources::layout::{class_folders, sheet, tables, vpt, vtab};

/// Maximum number of classes.
const MAX_CLASSES: u32 = 1 << 17;

/// The kind of a folder, in words.
pub(crate) fn kind(folder: &Path) -> Option<&'static str> {
    Some(match () {
        () if vtab::is_here(folder) => "VTAB-1k lists",
        () if vpt::is_here(folder) => "VPT lists",
        () if sheet::is_here(folder) => "a CSV table of paths and labels",
        () if tables::is_here(folder) => "Parquet tables",
        () if class_folders::is_here(folder) => "class folders by part",
        () if !class_folders::class_names(folder).is_empty() => "class folders",
        () => return None,
    })
}

/// An entry for the folder, with the number of classes that its files have.
///
/// # Errors
/// If the folder is of no known kind, or its classes cannot be counted.
pub(crate) fn own_set(name: &str, folder: &Path) -> Result<DatasetEntry, DataError> {
    let bad = |reason: String| DataError::BadFile { set: name.to_owned(), path: folder.to_owned(), reason };
    if !folder.is_dir() {
        return Err(DataError::MissingFolder { set: name.to_owned(), path: folder.to_owned() });
    }
    let mut original = None;
    let names: Vec<String> = match kind(folder) {
        Some("VTAB-1k lists") => numbers(vtab::LABELLED.iter().flat_map(|list| {
            let text = files::read_text(&folder.join(list)).unwrap_or_default();
            text.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect::<Vec<u32>>()
        })),
        Some("VPT lists") => vpt::ids(name, folder)?.iter().map(u64::to_string).collect(),
        Some("a CSV table of paths and labels") => sheet::classes(name, folder)?,
        Some("Parquet tables") => {
            let mut labels = BTreeSet::new();
            for path in tables::all(folder) {
                let table = ParquetRecords::open(path, Columns::usual()).and_then(|table| table.labels());
                labels.extend(table.map_err(bad)?);
            }
            numbers(labels.into_iter().filter_map(|label| u32::try_from(label).ok()))
        }
        Some("class folders by part") => class_folders::class_names(&folder.join("train")),
        Some(_) => {
            let format = OriginalFormat::ClassFolders { folder: ".".into() };
            original =
                Some(Original { format, counts: PoolCounts { train: 1, val: 0, test: 0 }, differs: None });
            class_folders::class_names(folder)
        }
        None => {
            return Err(DataError::UnknownLayout {
                set: name.to_owned(),
                path: folder.to_owned(),
                original: ", a CSV table (path,label), or one folder for each class".into(),
            });
        }
    };
    let classes = u32::try_from(names.len()).map_err(|error| bad(error.to_string()))?;
    if classes < 2 {
        return Err(bad(format!("it has {classes} classes; at least two are needed")));
    }
    Ok(DatasetEntry {
        folder: folder.file_name().map(|folder| folder.to_string_lossy().into_owned()),
        classes,
        class_names: ClassNames::Listed(names),
        original,
        ..DatasetEntry::own(name)
    })
}

/// The labels 0 up to the largest, as names. A label beyond the limit is reported when the set is opened.
fn numbers(labels: impl Iterator<Item = u32>) -> Vec<String> {
    let count = labels.max().map_or(0, |most| most.saturating_add(1).min(MAX_CLASSES));
    (0..count).map(|label| label.to_string()).collect()
}

/// The folder that contains the set's.
pub(crate) fn root_of(folder: &Path) -> std::path::PathBuf {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    folder.parent().unwrap_or(&folder).to_owned()
}
