//! The on-disk layout of VTAB-1k as commonly distributed: four lists of `relative/path label` next to the images.
//!
//! Everything that can be checked without decoding is checked here, before any training: lists, labels, paths, that the
//! files exist, and that no image is in two splits. `vision::image_set` turns the rows into batches.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::DataError;
use crate::io::files::{self, stays_inside};
use crate::registry::DatasetEntry;
use crate::sources::parts::Pools;
use crate::sources::sample::{Listed, Place, Sample};

/// The three lists that partition the dataset, in the order train, val, test.
const LISTS: [&str; 3] = ["train800.txt", "val200.txt", "test.txt"];
/// The list that combines the first two.
const UNION: &str = "train800val200.txt";

/// A split list, read but not yet parsed.
struct List<'a> {
    set: &'a str,
    folder: PathBuf,
    path: PathBuf,
    text: String,
}

/// Whether the folder has this layout, even if a list is missing.
pub(super) fn is_here(folder: &Path) -> bool {
    LISTS.iter().chain([&UNION]).any(|name| folder.join(name).is_file())
}

/// Reads and checks the lists.
pub(super) fn read(entry: &DatasetEntry, folder: &Path) -> Result<Pools, DataError> {
    let list = |name: &str| List::read(&entry.name, folder, name);
    let lists = [list(LISTS[0])?, list(LISTS[1])?, list(LISTS[2])?];
    check_union(&lists, &list(UNION)?)?;
    Ok([lists[0].samples(entry)?, lists[1].samples(entry)?, lists[2].samples(entry)?])
}

/// Checks that the fourth list is the first followed by the second, so that "train + val" is unambiguous.
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

impl<'a> List<'a> {
    fn read(set: &'a str, folder: &Path, name: &str) -> Result<Self, DataError> {
        let path = folder.join(name);
        match files::read_text(&path) {
            Ok(text) if text.trim().is_empty() => Err(DataError::EmptyList { set: set.to_owned(), path }),
            Ok(text) => Ok(Self { set, folder: folder.to_owned(), path, text }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(DataError::MissingList { set: set.to_owned(), path })
            }
            Err(source) => Err(DataError::Read { set: set.to_owned(), path, source }),
        }
    }

    fn samples(&self, entry: &DatasetEntry) -> Result<Vec<Sample>, DataError> {
        let list: Arc<Path> = self.path.as_path().into();
        let sample = |(index, text)| {
            let (image, label) = self.row(entry, index + 1, text)?;
            let listed = Some(Listed { list: Arc::clone(&list), line: index + 1 });
            Ok(Sample { place: Place::File(self.folder.join(image)), label, listed })
        };
        self.text.lines().enumerate().map(sample).collect()
    }

    fn row<'t>(&self, entry: &DatasetEntry, line: usize, text: &'t str) -> Result<(&'t str, u32), DataError> {
        let set = || self.set.to_owned();
        let path = self.path.clone();
        let parsed =
            text.rsplit_once(' ').and_then(|(image, label)| Some((image, label.parse::<u64>().ok()?)));
        let Some((image, label)) = parsed.filter(|(image, _)| !image.trim().is_empty()) else {
            return Err(DataError::MalformedLine { set: set(), path, line, found: text.to_owned() });
        };
        if !stays_inside(image.as_ref()) {
            return Err(DataError::PathEscapes { set: set(), path, line, found: image.to_owned() });
        }
        match u32::try_from(label) {
            Ok(label) if label < entry.classes => Ok((image, label)),
            _ => Err(DataError::LabelOutOfRange { set: set(), path, line, label, classes: entry.classes }),
        }
    }
}
