//! Parquet image tables: `*train*.parquet`, `*val*.parquet` and `*test*.parquet`, in the folder or in its `data/`.
//!
//! Names of columns and parts are the usual ones or, for tables of the Hugging Face Hub, those of the registry. The
//! tables of the Hub are whole datasets: VTAB's parts are cut from them in the order of their rows.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::DataError;
use crate::registry::{DatasetEntry, HubTables, Suite};
use crate::sources::formats::parquet::{Columns, ParquetRecords};
use crate::sources::layout::Drawn;
use crate::sources::parts::{self, Pools};
use crate::sources::sample::{Records, Sample};

const PARTS: [&str; 3] = ["train", "val", "test"];

/// Whether the folder has this layout.
pub(super) fn is_here(folder: &Path) -> bool {
    !tables(folder, |name| name.contains(PARTS[0])).is_empty()
}

/// Reads the labels of all tables; images are read once the split is known.
pub(super) fn read(entry: &DatasetEntry, folder: &Path) -> Result<(Pools, Drawn), DataError> {
    if let Some(hub) = &entry.hub {
        let pools = of_the_hub(entry, hub, folder)?;
        return Ok(match entry.suite {
            Suite::Vtab => (parts::first_rows(entry, pools), Drawn::FirstRows),
            _ => (parts::sample_parts(entry, pools), Drawn::Seeded),
        });
    }
    let mut pools = Pools::default();
    for (pool, part) in pools.iter_mut().zip(PARTS) {
        for path in tables(folder, |name| name.contains(part)) {
            pool.extend(samples(entry, path, Columns::usual())?);
        }
    }
    Ok(match entry.suite {
        Suite::Own => parts::complete(entry, pools),
        _ => (parts::sample_parts(entry, pools), Drawn::Seeded),
    })
}

/// All tables of the three parts.
pub(super) fn all(folder: &Path) -> Vec<PathBuf> {
    tables(folder, |name| PARTS.iter().any(|part| name.contains(part)))
}

/// The parts as the registry names them.
fn of_the_hub(entry: &DatasetEntry, hub: &HubTables, folder: &Path) -> Result<Pools, DataError> {
    let part = |part: &str| {
        let start = format!("{part}-");
        let paths = tables(folder, |name| name.starts_with(&start));
        if paths.is_empty() {
            let reason = format!("there is no table {part}-*.parquet");
            return Err(DataError::BadFile { set: entry.name.clone(), path: folder.to_owned(), reason });
        }
        let columns = || Columns::named(&hub.image, &hub.label);
        let samples = paths.into_iter().map(|path| samples(entry, path, columns()));
        Ok(samples.collect::<Result<Vec<_>, DataError>>()?.concat())
    };
    let train = part(&hub.parts.train)?;
    let mut test = hub.parts.test.as_deref().map_or_else(|| Ok(Vec::new()), part)?;
    let val = match &hub.parts.val {
        None => Vec::new(),
        val if *val == hub.parts.test => {
            let second = test.split_off(test.len() / 2);
            std::mem::replace(&mut test, second)
        }
        Some(val) => part(val)?,
    };
    Ok([train, val, test])
}

fn samples(entry: &DatasetEntry, path: PathBuf, columns: Columns) -> Result<Vec<Sample>, DataError> {
    let fault = |reason| DataError::BadFile { set: entry.name.clone(), path: path.clone(), reason };
    let records = ParquetRecords::open(path.clone(), columns).map_err(fault)?;
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

/// The tables whose names `belongs` accepts, in alphabetical order, which is the order of their shards.
fn tables(folder: &Path, belongs: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries =
        [folder.to_owned(), folder.join("data")].into_iter().flat_map(fs::read_dir).flatten().flatten();
    let is_table = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(".parquet") && belongs(name)
    };
    let mut tables: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_table).collect();
    tables.sort();
    tables
}
