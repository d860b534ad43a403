//! Parquet image tables: `*train*.parquet`, `*val*.parquet` and `*test*.parquet`, in the folder or in its `data/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::DataError;
use crate::registry::DatasetEntry;
use crate::sources::formats::parquet::ParquetRecords;
use crate::sources::parts::Pools;
use crate::sources::sample::{Records, Sample};

const PARTS: [&str; 3] = ["train", "val", "test"];

/// Whether the folder has this layout.
pub(super) fn is_here(folder: &Path) -> bool {
    !tables(folder, PARTS[0]).is_empty()
}

/// Reads the labels of all tables; images are read once the split is known.
pub(super) fn read(entry: &DatasetEntry, folder: &Path) -> Result<Pools, DataError> {
    let mut pools = Pools::default();
    for (pool, part) in pools.iter_mut().zip(PARTS) {
        for path in tables(folder, part) {
            pool.extend(samples(entry, path)?);
        }
    }
    Ok(pools)
}

fn samples(entry: &DatasetEntry, path: PathBuf) -> Result<Vec<Sample>, DataError> {
    let fault = |reason| DataError::BadFile { set: entry.name.clone(), path: path.clone(), reason };
    let records = ParquetRecords::new(path.clone());
    let label = |(row, label): (usize, i64)| match u32::try_from(label) {
        Ok(label) if label < entry.classes => Ok(label),
        _ => Err(fault(format!("row {row}: label {label} is out of range for {} classes", entry.classes))),
    };
    let labels =
        records.labels().map_err(fault)?.into_iter().enumerate().map(label).collect::<Result<Vec<_>, _>>()?;
    if labels.is_empty() {
        return Err(fault("it has no rows".into()));
    }
    let records: Arc<dyn Records> = Arc::new(records);
    Ok(Sample::records(&records, labels))
}

/// The tables of a part in alphabetical order, which is the order of their shards.
fn tables(folder: &Path, part: &str) -> Vec<PathBuf> {
    let entries =
        [folder.to_owned(), folder.join("data")].into_iter().flat_map(fs::read_dir).flatten().flatten();
    let belongs = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(".parquet") && name.contains(part)
    };
    let mut tables: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(belongs).collect();
    tables.sort();
    tables
}
