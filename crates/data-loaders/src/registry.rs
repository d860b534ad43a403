//! The typed registry: one YAML file a set under `datasets/`, embedded, so that the program needs no path to it.
//!
//! The entry says what a set is (classes, group, metric, licence, citation), not where it lies on someone's disk. A
//! sweep resolves names here first, and `image_set` opens or draws what the entry describes. Adding a set is adding its
//! file and one line in the list below; a test compares the list with the folder.

use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

use crate::draw::MiniTask;
use crate::error::DataError;
use crate::image_set::SplitCounts;

/// The benchmark that a set belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// The Visual Task Adaptation Benchmark with 1,000 training images a task (VTAB-1k).
    Vtab,
}

/// One of VTAB's three groups (Zhai et al. 2019, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Photographs of things and places.
    Natural,
    /// Images of special equipment: microscopes, satellites.
    Specialized,
    /// Questions about the structure of a scene.
    Structured,
}

/// How predictions are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of samples whose most probable class is the label.
    Accuracy,
}

/// One data set, as described by `datasets/<name>.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetEntry {
    /// The identifier: name of the YAML file and of the folder on disk.
    pub name: String,
    /// The name that tables print.
    pub title: String,
    /// The benchmark.
    pub suite: Suite,
    /// Whether the set is one of the benchmark's own; stand-ins are not and stay out of its columns and averages.
    pub official: bool,
    /// The group within the benchmark.
    pub group: Group,
    /// Position of the column in a table, unique within the suite.
    pub order: u32,
    /// Number of classes; labels lie in `0..classes`.
    pub classes: u32,
    /// The score.
    pub metric: Metric,
    /// Terms of use, in short.
    pub licence: String,
    /// The publication to cite.
    pub citation: String,
    /// Sizes of the published splits; none for a set whose lists are our own.
    #[serde(default)]
    pub splits: Option<SplitCounts>,
    /// The generator that draws `mini/<name>`.
    #[serde(default)]
    pub mini: Option<MiniTask>,
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$((concat!($name, ".yaml"), include_str!(concat!("../../../datasets/", $name, ".yaml")))),*]
    };
}

/// File names and texts of `datasets/`, in table order.
const FILES: &[(&str, &str)] = embedded![
    "cifar100",
    "caltech101",
    "dtd",
    "oxford_flowers102",
    "oxford_iiit_pet",
    "svhn",
    "sun397",
    "patch_camelyon",
    "eurosat",
    "resisc45",
    "diabetic_retinopathy",
    "clevr_count",
    "clevr_distance",
    "dmlab",
    "kitti_distance",
    "dsprites_location",
    "dsprites_orientation",
    "smallnorb_azimuth",
    "smallnorb_elevation",
    "dtd10",
    "rsscn7",
    "mednist",
];

/// Every registered set, in table order.
///
/// # Errors
/// [`DataError::Registry`] if an embedded file is not a valid entry; the tests exclude it for a released program.
pub fn datasets() -> Result<&'static [DatasetEntry], DataError> {
    static ENTRIES: OnceLock<Vec<DatasetEntry>> = OnceLock::new();
    if let Some(entries) = ENTRIES.get() {
        return Ok(entries);
    }
    let entries = FILES.iter().map(|(file, text)| parse_dataset(file, text)).collect::<Result<_, _>>()?;
    Ok(ENTRIES.get_or_init(|| entries))
}

/// The set of that name; a leading `mini/` is not part of a name and is refused like any unknown one.
///
/// # Errors
/// [`DataError::UnknownSet`] with the nearest known name.
pub fn dataset(name: &str) -> Result<&'static DatasetEntry, DataError> {
    let entries = datasets()?;
    entries.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let nearest = entries.iter().map(|entry| entry.name.as_str()).max_by(|left, right| {
            strsim::jaro_winkler(left, name).total_cmp(&strsim::jaro_winkler(right, name))
        });
        DataError::UnknownSet { name: name.to_owned(), nearest: nearest.unwrap_or_default().to_owned() }
    })
}

/// Reads one entry from the text of a registry file; `file` is its name for messages.
///
/// # Errors
/// [`DataError::Registry`]: not YAML, an unknown or missing field, no class, or a name other than the file's.
pub fn parse_dataset(file: &str, text: &str) -> Result<DatasetEntry, DataError> {
    let fault = |reason: String| DataError::Registry { file: file.to_owned(), reason };
    let entry: DatasetEntry = serde_yaml::from_str(text).map_err(|error| fault(error.to_string()))?;
    if format!("{}.yaml", entry.name) != file {
        return Err(fault(format!("the entry calls itself `{}`", entry.name)));
    }
    if entry.classes < 2 {
        return Err(fault(format!("a set needs two classes or more, this one has {}", entry.classes)));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets");
        let on_disk: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".yaml"))
            .collect();
        let embedded: BTreeSet<String> = FILES.iter().map(|(file, _)| (*file).to_owned()).collect();
        assert_eq!(on_disk, embedded);
    }

    #[test]
    fn names_and_orders_are_unique() {
        let entries = datasets().unwrap();
        assert_eq!(entries.iter().map(|entry| &entry.name).collect::<BTreeSet<_>>().len(), entries.len());
        assert_eq!(entries.iter().map(|entry| entry.order).collect::<BTreeSet<_>>().len(), entries.len());
        assert!(entries.is_sorted_by_key(|entry| entry.order));
    }

    #[test]
    fn vtab_has_nineteen_official_sets_in_groups_of_seven_four_and_eight() {
        let official: Vec<_> = datasets().unwrap().iter().filter(|entry| entry.official).collect();
        let count = |group| official.iter().filter(|entry| entry.group == group).count();
        assert_eq!((count(Group::Natural), count(Group::Specialized), count(Group::Structured)), (7, 4, 8));
        assert!(official.iter().all(|entry| entry.mini.is_some() && entry.splits.is_some()));
    }

    #[test]
    fn class_counts_are_those_of_the_benchmark() {
        let expected = [100, 102, 47, 102, 37, 10, 397, 2, 10, 45, 5, 8, 6, 6, 4, 16, 16, 18, 9, 10, 7, 6];
        let classes: Vec<u32> = datasets().unwrap().iter().map(|entry| entry.classes).collect();
        assert_eq!(classes, expected);
    }

    #[test]
    fn an_unknown_field_is_named() {
        let text = FILES[0].1.replace("classes:", "colour: red\nclasses:");
        let message = parse_dataset("cifar100.yaml", &text).unwrap_err().to_string();
        assert!(message.starts_with("datasets/cifar100.yaml: ") && message.contains("colour"), "{message}");
    }

    #[test]
    fn an_unknown_field_of_a_generator_is_named() {
        let text = FILES[0].1.replace("portrayal:", "colour: red, portrayal:");
        let message = parse_dataset("cifar100.yaml", &text).unwrap_err().to_string();
        assert!(message.contains("colour"), "{message}");
    }

    #[test]
    fn an_unknown_set_is_answered_with_the_nearest_name() {
        let message = dataset("cifar10").unwrap_err().to_string();
        assert!(message.contains("`cifar10`") && message.contains("`cifar100`"), "{message}");
    }
}
