//! The FGVC layout of VPT (Jia et al. 2022): `train.json`, `val.json` and `test.json`, each a map from image to class
//! id.
//!
//! Ids are those of the dataset (Stanford Cars counts from 1, NABirds skips numbers); a label is the rank of its id
//! among the training ids, as in VPT. Images are next to the lists or in `images/`.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::error::DataError;
use crate::io::files::{self, stays_inside};
use crate::registry::DatasetEntry;
use crate::sources::parts::Pools;
use crate::sources::sample::{Listed, Place, Sample};

const LISTS: [&str; 3] = ["train.json", "val.json", "test.json"];
/// Possible image folders, by the conventions of the five datasets.
const IMAGES: [&str; 3] = ["", "images", "Images"];

/// Whether the folder has this layout.
pub(super) fn is_here(folder: &Path) -> bool {
    folder.join(LISTS[0]).is_file()
}

/// The class ids of the training list, in ascending order.
pub(super) fn ids(set: &str, folder: &Path) -> Result<Vec<u64>, DataError> {
    let list = List::read(set, folder.join(LISTS[0]))?;
    let mut ids: Vec<u64> = list.pairs.iter().map(|(_, id)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Reads and checks the three lists.
pub(super) fn read(entry: &DatasetEntry, folder: &Path) -> Result<Pools, DataError> {
    let list = |name| List::read(&entry.name, folder.join(name));
    let lists = [list(LISTS[0])?, list(LISTS[1])?, list(LISTS[2])?];
    let labels = lists[0].labels(entry)?;
    let base = lists[0].base(folder);
    let [train, val, test] = lists;
    Ok([
        train.samples(entry, &base, &labels)?,
        val.samples(entry, &base, &labels)?,
        test.samples(entry, &base, &labels)?,
    ])
}

/// A list in file order; repeated names are kept, so that they can be rejected.
struct List {
    path: PathBuf,
    text: String,
    pairs: Vec<(String, u64)>,
}

struct Pairs(Vec<(String, u64)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map from image paths to class ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl List {
    fn read(set: &str, path: PathBuf) -> Result<Self, DataError> {
        let set = || set.to_owned();
        let text = files::read_text(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => DataError::MissingList { set: set(), path: path.clone() },
            _ => DataError::Read { set: set(), path: path.clone(), source },
        })?;
        let pairs: Result<Pairs, _> = serde_json::from_str(&text);
        let Pairs(pairs) = pairs.map_err(|error| DataError::BadLine {
            set: set(),
            path: path.clone(),
            line: error.line(),
            reason: error.to_string(),
        })?;
        if pairs.is_empty() {
            return Err(DataError::EmptyList { set: set(), path });
        }
        Ok(Self { path, text, pairs })
    }

    /// The label of each id in the training list.
    fn labels(&self, entry: &DatasetEntry) -> Result<HashMap<u64, u32>, DataError> {
        let mut ids: Vec<u64> = self.pairs.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != entry.classes as usize {
            let reason = format!("it lists {} classes, but the data set has {}", ids.len(), entry.classes);
            return Err(DataError::BadFile { set: entry.name.clone(), path: self.path.clone(), reason });
        }
        Ok(ids.into_iter().zip(0..).collect())
    }

    /// The base folder of the paths: the first in which the first image exists.
    fn base(&self, folder: &Path) -> PathBuf {
        let has_first =
            |base: &PathBuf| self.pairs.first().is_some_and(|(image, _)| base.join(image).is_file());
        IMAGES.iter().map(|name| folder.join(name)).find(has_first).unwrap_or_else(|| folder.to_owned())
    }

    fn samples(
        self,
        entry: &DatasetEntry,
        base: &Path,
        labels: &HashMap<u64, u32>,
    ) -> Result<Vec<Sample>, DataError> {
        let list: Arc<Path> = self.path.as_path().into();
        let lines = self.lines();
        let sample = |((image, id), line): (&(String, u64), usize)| {
            let (set, path) = (entry.name.clone(), self.path.clone());
            if !stays_inside(image.as_ref()) {
                return Err(DataError::PathEscapes { set, path, line, found: image.clone() });
            }
            let label = *labels.get(id).ok_or_else(|| {
                let reason = format!("the class id {id} is not in {}", LISTS[0]);
                DataError::BadLine { set, path, line, reason }
            })?;
            let listed = Some(Listed { list: Arc::clone(&list), line });
            Ok(Sample { place: Place::File(base.join(image)), label, listed })
        };
        self.pairs.iter().zip(lines).map(sample).collect()
    }

    /// The line number of each pair: the line of the next quoted string that starts with its name.
    fn lines(&self) -> Vec<usize> {
        let (mut position, mut line) = (0, 1);
        let place = |(image, _): &(String, u64)| {
            let quoted = format!("\"{image}\"");
            if let Some(found) = self.text[position..].find(&quoted) {
                line += self.text[position..position + found].matches('\n').count();
                position += found + quoted.len();
            }
            line
        };
        self.pairs.iter().map(place).collect()
    }
}
