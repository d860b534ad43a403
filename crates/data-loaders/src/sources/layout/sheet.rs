//! A CSV table of images next to them: columns `path`, `label` and, if the split is given, `split` (train, val, test).
//!
//! Labels are numbers or names; they are numbered in alphabetical order, or in numerical order if all are numbers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::error::DataError;
use crate::io::files::{self, MAX_LIST_BYTES, stays_inside};
use crate::registry::DatasetEntry;
use crate::sources::manifest::PARTS;
use crate::sources::parts::Pools;
use crate::sources::sample::{Listed, Place, Sample};

#[derive(Deserialize)]
struct Row {
    path: String,
    label: String,
    #[serde(default)]
    split: Option<String>,
}

/// Whether the folder has exactly one CSV table.
pub(super) fn is_here(folder: &Path) -> bool {
    table(folder).is_some()
}

fn table(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let tables: Vec<PathBuf> =
        entries.filter(|path| path.is_file() && path.extension().is_some_and(|end| end == "csv")).collect();
    <[PathBuf; 1]>::try_from(tables).ok().map(|[path]| path)
}

/// The labels in order.
pub(super) fn classes(set: &str, folder: &Path) -> Result<Vec<String>, DataError> {
    let (_, rows) = rows(set, folder)?;
    Ok(ordered(&rows))
}

fn ordered(rows: &[Row]) -> Vec<String> {
    let names: BTreeSet<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    if names.iter().all(|name| name.parse::<u64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<u64>().unwrap_or_default());
    }
    names
}

fn rows(set: &str, folder: &Path) -> Result<(PathBuf, Vec<Row>), DataError> {
    let path = table(folder).unwrap_or_else(|| folder.join("*.csv"));
    let file = files::open(&path, MAX_LIST_BYTES).map_err(|source| DataError::Read {
        set: set.to_owned(),
        path: path.clone(),
        source,
    })?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
    let row = |(row, line): (csv::Result<Row>, usize)| {
        row.map_err(|error| bad_line(set, &path, line, error.to_string()))
    };
    let rows = reader.deserialize().zip(2..).map(row).collect::<Result<Vec<_>, _>>()?;
    if rows.is_empty() {
        return Err(DataError::EmptyList { set: set.to_owned(), path });
    }
    Ok((path, rows))
}

fn bad_line(set: &str, path: &Path, line: usize, reason: String) -> DataError {
    DataError::BadLine { set: set.to_owned(), path: path.to_owned(), line, reason }
}

/// Reads the table; all images are in train if it has no column `split`.
pub(super) fn read(entry: &DatasetEntry, folder: &Path) -> Result<Pools, DataError> {
    let (path, rows) = rows(&entry.name, folder)?;
    let (names, list): (_, Arc<Path>) = (ordered(&rows), path.as_path().into());
    let mut pools = Pools::default();
    for (Row { path: image, label, split }, line) in rows.into_iter().zip(2..) {
        if !stays_inside(image.as_ref()) {
            return Err(DataError::PathEscapes { set: entry.name.clone(), path, line, found: image });
        }
        let part = split.as_deref().filter(|split| !split.is_empty()).unwrap_or(PARTS[0]);
        let Some(part) = PARTS.iter().position(|name| *name == part) else {
            let reason = format!("the split `{part}` is not one of {}", PARTS.join(", "));
            return Err(bad_line(&entry.name, &path, line, reason));
        };
        let label = names.iter().position(|name| *name == label).unwrap_or(names.len());
        let listed = Some(Listed { list: Arc::clone(&list), line });
        pools[part].push(Sample { place: Place::File(folder.join(image)), label: label as u32, listed });
    }
    Ok(pools)
}
