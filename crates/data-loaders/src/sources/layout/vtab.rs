//! The on-disk layout of VTAB-1k as commonly distributed: four lists of `relative/path label` next to the images.
//!
//! Everything that can be checked without decoding is checked here, before any training: lists, labels, paths, that the
//! files exist, and that no image is in two splits. The order of the rows is that of the lists. `vision::image_set`
//! turns the rows into batches.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::DataError;
use crate::io::files::{self, stays_inside};
use crate::registry::DatasetEntry;
use crate::sources::layout::Drawn;
use crate::sources::parts::{self, Pools};
use crate::sources::sample::{Listed, Place, Sample};

/// The three lists that partition the dataset, in the order train, val, test.
const LISTS: [&str; 3] = ["train800.txt", "val200.txt", "test.txt"];
/// The list that combines the first two.
const UNION: &str = "train800val200.txt";

/// The lists with the labels that may occur.
pub(super) const LABELLED: [&str; 4] = [LISTS[0], LISTS[1], LISTS[2], UNION];

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

/// Reads and checks the lists. Some copies have only the lists of train+val and of test: val is then drawn.
pub(super) fn read(entry: &DatasetEntry, folder: &Path) -> Result<(Pools, Drawn), DataError> {
    let list = |name: &str| List::read(&entry.name, folder, name);
    let [train, val, test] = LISTS;
    let both = [train, val].map(|name| folder.join(name).is_file());
    if both == [false, false] {
        let (union, test) = (list(UNION)?, list(test)?);
        let (train, val) = parts::hold_out_val(entry, union.samples(entry)?);
        return Ok(([train, val, test.samples(entry)?], Drawn::Val));
    }
    let [train, val, test, union] = [list(train)?, list(val)?, list(test)?, list(UNION)?];
    let [train, val, test, union] =
        [train.samples(entry)?, val.samples(entry)?, test.samples(entry)?, union.samples(entry)?];
    check_union(entry, [&train, &val], &union)?;
    Ok(([train, val, test], Drawn::Nothing))
}

/// Checks that the fourth list has the rows of the first two, in any order, so that "train + val" is unambiguous.
fn check_union(entry: &DatasetEntry, parts: [&[Sample]; 2], union: &[Sample]) -> Result<(), DataError> {
    let key = |sample: &Sample| (sample.place.path(), sample.label);
    let mut rows: HashMap<_, Vec<&Sample>> = HashMap::new();
    for sample in parts.into_iter().flatten() {
        rows.entry(key(sample)).or_default().push(sample);
    }
    let differs = |sample: &Sample, other: &'static str| {
        let (path, line) = sample
            .listed
            .as_ref()
            .map_or_else(|| (sample.place.path(), 0), |listed| (listed.list.to_path_buf(), listed.line));
        DataError::ListsDisagree { set: entry.name.clone(), path, line, other }
    };
    for sample in union {
        if rows.get_mut(&key(sample)).and_then(Vec::pop).is_none() {
            return Err(differs(sample, "train800.txt or val200.txt"));
        }
    }
    match parts
        .into_iter()
        .flatten()
        .find(|sample| rows.get(&key(sample)).is_some_and(|left| !left.is_empty()))
    {
        Some(sample) => Err(differs(sample, UNION)),
        None => Ok(()),
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
