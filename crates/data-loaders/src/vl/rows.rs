//! JSON files of questions: a whole document, or one value per line; errors name file and line.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::DataError;
use crate::io::files;
use crate::vl::conversation::Origin;

fn text(set: &str, path: &Path) -> Result<String, DataError> {
    let read = |source| DataError::Read { set: set.into(), path: path.into(), source };
    files::read_text(path).map_err(read)
}

/// A JSON document.
pub(super) fn read_json<T: DeserializeOwned>(set: &str, path: &Path) -> Result<T, DataError> {
    serde_json::from_str(&text(set, path)?).map_err(|error| DataError::BadFile {
        set: set.into(),
        path: path.into(),
        reason: error.to_string(),
    })
}

/// The JSON value on each line that is not empty, with its location.
pub(super) fn read_lines<T: DeserializeOwned>(set: &str, path: &Path) -> Result<Vec<(Origin, T)>, DataError> {
    let start = Origin::new(set, path, 0);
    let rows = text(set, path)?;
    let rows = rows.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    rows.map(|(index, line)| {
        let origin = Origin { row: index + 1, ..start.clone() };
        match serde_json::from_str(line) {
            Ok(value) => Ok((origin, value)),
            Err(error) => Err(origin.fault(error.to_string())),
        }
    })
    .collect()
}

/// The entries of a JSON list, with their locations.
pub(super) fn numbered<T>(set: &str, path: &Path, entries: Vec<T>) -> impl Iterator<Item = (Origin, T)> {
    let start = Origin::new(set, path, 0);
    (1..).zip(entries).map(move |(row, entry)| (Origin { row, ..start.clone() }, entry))
}
