//! The on-disk layout of VTAB-1k as the community ships it: four lists of `relative/path label` beside the images.
//!
//! Everything that can be checked without decoding is checked here, before any training: lists, labels, paths, presence
//! of the files, and that no image is in two splits. `image_set` turns the rows into batches.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use crate::error::DataError;
use crate::registry::DatasetEntry;

/// The three lists that partition the set, in the order train, val, test.
const LISTS: [&str; 3] = ["train800.txt", "val200.txt", "test.txt"];
/// The list that repeats the first two.
const UNION: &str = "train800val200.txt";

/// A listed image.
pub(crate) struct Row {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Its class.
    pub(crate) label: u32,
}

/// A set on disk.
pub(crate) struct Folder {
    /// Rows of train, val and test.
    pub(crate) parts: [Vec<Row>; 3],
    /// blake3 (hex) over the lists and the bytes of every listed image.
    pub(crate) checksum: String,
}

/// One split list, read but not yet understood.
struct List<'a> {
    set: &'a str,
    folder: PathBuf,
    path: PathBuf,
    text: String,
}

/// Reads and checks the set in `<root>/<name>`.
pub(crate) fn open(entry: &DatasetEntry, root: &Path) -> Result<Folder, DataError> {
    let folder = root.join(&entry.name);
    if !folder.is_dir() {
        return Err(DataError::MissingFolder { set: entry.name.clone(), path: folder });
    }
    let list = |name: &str| List::read(&entry.name, &folder, name);
    let lists = [list(LISTS[0])?, list(LISTS[1])?, list(LISTS[2])?];
    check_union(&lists, &list(UNION)?)?;
    let parts = [lists[0].rows(entry)?, lists[1].rows(entry)?, lists[2].rows(entry)?];
    check_distinct(&lists)?;
    let mut hasher = blake3::Hasher::new();
    for (list, rows) in lists.iter().zip(&parts) {
        hasher.update(&(list.text.len() as u64).to_le_bytes()).update(list.text.as_bytes());
        for hash in list.image_hashes(rows)? {
            hasher.update(hash.as_bytes());
        }
    }
    Ok(Folder { parts, checksum: hasher.finalize().to_hex().to_string() })
}

/// The fourth list must be the first followed by the second: "train + val" has one meaning.
fn check_union(lists: &[List; 3], union: &List) -> Result<(), DataError> {
    let mut given = union.text.lines();
    let mut expected = lists[0].text.lines().chain(lists[1].text.lines());
    let mut line = 1;
    loop {
        match (given.next(), expected.next()) {
            (None, None) => return Ok(()),
            (one, other) if one == other => line += 1,
            _ => {
                return Err(DataError::ListsDisagree {
                    set: union.set.to_owned(),
                    path: union.path.clone(),
                    line,
                });
            }
        }
    }
}

/// No image may be in two splits, nor twice in one.
fn check_distinct(lists: &[List; 3]) -> Result<(), DataError> {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for (list, name) in lists.iter().zip(LISTS) {
        for (index, line) in list.text.lines().enumerate() {
            let image = line.rsplit_once(' ').map_or(line, |(image, _)| image);
            if let Some(other) = seen.insert(image, name) {
                return Err(DataError::RepeatedImage {
                    set: list.set.to_owned(),
                    path: list.path.clone(),
                    line: index + 1,
                    image: image.to_owned(),
                    other: other.to_owned(),
                });
            }
        }
    }
    Ok(())
}

impl<'a> List<'a> {
    fn read(set: &'a str, folder: &Path, name: &str) -> Result<Self, DataError> {
        let path = folder.join(name);
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => Err(DataError::EmptyList { set: set.to_owned(), path }),
            Ok(text) => Ok(Self { set, folder: folder.to_owned(), path, text }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(DataError::MissingList { set: set.to_owned(), path })
            }
            Err(source) => Err(DataError::Read { set: set.to_owned(), path, source }),
        }
    }

    fn rows(&self, entry: &DatasetEntry) -> Result<Vec<Row>, DataError> {
        self.text.lines().enumerate().map(|(index, line)| self.row(entry, index + 1, line)).collect()
    }

    fn row(&self, entry: &DatasetEntry, line: usize, text: &str) -> Result<Row, DataError> {
        let set = || self.set.to_owned();
        let path = self.path.clone();
        let parsed =
            text.rsplit_once(' ').and_then(|(image, label)| Some((image, label.parse::<u64>().ok()?)));
        let Some((image, label)) = parsed.filter(|(image, _)| !image.trim().is_empty()) else {
            return Err(DataError::MalformedLine { set: set(), path, line, found: text.to_owned() });
        };
        let inside = |component| matches!(component, Component::Normal(_) | Component::CurDir);
        if !Path::new(image).components().all(inside) {
            return Err(DataError::PathEscapes { set: set(), path, line, found: image.to_owned() });
        }
        match u32::try_from(label) {
            Ok(label) if label < entry.classes => Ok(Row { path: self.folder.join(image), label }),
            _ => Err(DataError::LabelOutOfRange { set: set(), path, line, label, classes: entry.classes }),
        }
    }

    /// The hash of each image's bytes; of several faults, the first in the list is told.
    fn image_hashes(&self, rows: &[Row]) -> Result<Vec<blake3::Hash>, DataError> {
        let hashes: Vec<_> =
            rows.par_iter().map(|row| fs::read(&row.path).map(|bytes| blake3::hash(&bytes))).collect();
        let told = |(index, (hash, row)): (usize, (std::io::Result<blake3::Hash>, &Row))| {
            hash.map_err(|source| match source.kind() {
                ErrorKind::NotFound => DataError::MissingImage {
                    set: self.set.to_owned(),
                    path: self.path.clone(),
                    line: index + 1,
                    image: row.path.clone(),
                },
                _ => DataError::Read { set: self.set.to_owned(), path: row.path.clone(), source },
            })
        };
        hashes.into_iter().zip(rows).enumerate().map(told).collect()
    }
}
