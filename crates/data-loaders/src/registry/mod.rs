//! The typed registry: one YAML file per dataset under `datasets/`, embedded so that the program needs no path to it.
//!
//! An entry describes a dataset (classes, group, metric, licence, citation), not its location on disk. A sweep resolves
//! names here first; then `vision::image_set` opens the dataset or generates its stand-in. To add a dataset, add its
//! file and one line in the list below; a test compares the list with the folder.

mod catalogue;
mod download;
mod entry;
mod original;
mod questions;
mod shared;
pub(crate) mod synthetic_task;

use std::path::Path;
use std::sync::OnceLock;

pub use catalogue::catalogue;
pub use download::{Distribution, Download, HubRepository, SetFolder};
pub use entry::{
    ClassNames, DatasetEntry, Group, HubParts, HubTables, Metric, QuestionEntry, QuestionForm, Suite,
    TextEntry,
};
pub use original::{ClevrQuestion, NorbFactor, Original, OriginalFormat, PoolCounts};
pub use questions::{AnswerFormat, Benchmark, SmallSet};
pub use shared::SharedEntry;
pub use synthetic_task::{
    MiniTask, Portrayal, SceneQuestion, SpecimenKind, SpriteFactor, Surface, TissueQuestion,
};

use crate::error::DataError;

macro_rules! embedded {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$((concat!($name, ".yaml"), include_str!(concat!("../../../../datasets/", $folder, $name, ".yaml")))),*]
    };
}

/// File names and contents of `datasets/`, in table order.
const FILES: &[(&str, &str)] = embedded!["":
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
    "cub_200_2011",
    "nabirds",
    "oxford_flowers",
    "stanford_dogs",
    "stanford_cars",
    "gic_cifar100",
    "imagenet1k",
    "boolq",
    "piqa",
    "siqa",
    "hellaswag",
    "winogrande",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
    "vqav2",
    "gqa",
    "vizwiz",
    "scienceqa_img",
    "textvqa",
    "pope",
    "mmbench",
    "easy_vqa",
    "pope_coco128",
    "nlvr",
];

/// The variable that names a folder with entries of one's own.
const OWN: &str = "SAN_DATASETS";

/// File names and contents of `datasets/shared/`.
const SHARED: &[(&str, &str)] =
    embedded!["shared/": "vtab-1k", "vtab-1k-drive", "commonsense_170k", "llava_v1_5_mix665k"];

/// All registered datasets, suite by suite, in table order.
///
/// # Errors
/// [`DataError::Registry`] if an embedded file is not a valid entry; the tests rule this out for a released program.
pub fn datasets() -> Result<&'static [DatasetEntry], DataError> {
    static ENTRIES: OnceLock<Vec<DatasetEntry>> = OnceLock::new();
    if let Some(entries) = ENTRIES.get() {
        return Ok(entries);
    }
    let mut entries =
        FILES.iter().map(|(file, text)| parse_dataset(file, text)).collect::<Result<Vec<_>, _>>()?;
    if let Some(folder) = std::env::var_os(OWN).filter(|folder| !folder.is_empty()) {
        add_own(&mut entries, Path::new(&folder))?;
    }
    Ok(ENTRIES.get_or_init(|| entries))
}

/// Adds the entries of a folder of one's own, `<name>.yaml` each.
fn add_own(entries: &mut Vec<DatasetEntry>, folder: &Path) -> Result<(), DataError> {
    let fault =
        |file: &Path, reason: String| DataError::Registry { file: file.display().to_string(), reason };
    let unreadable = |error: std::io::Error| fault(folder, format!("{OWN}: {error}"));
    let mut files = std::fs::read_dir(folder)
        .and_then(|all| all.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>())
        .map_err(unreadable)?;
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(|error| fault(&path, error.to_string()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let entry = parse_dataset(&name, &text)?;
        if entry.official {
            return Err(fault(&path, "`official` is for the data sets of the benchmarks themselves".into()));
        }
        if entries.iter().any(|other| other.name == entry.name) {
            return Err(fault(&path, format!("there is already a data set named `{}`", entry.name)));
        }
        entries.push(entry);
    }
    Ok(())
}

/// All files that several datasets use.
///
/// # Errors
/// As [`datasets`].
pub fn shared_files() -> Result<&'static [SharedEntry], DataError> {
    static ENTRIES: OnceLock<Vec<SharedEntry>> = OnceLock::new();
    if let Some(entries) = ENTRIES.get() {
        return Ok(entries);
    }
    let sets = datasets()?;
    let entries = SHARED.iter().map(|(file, text)| SharedEntry::parse(file, text, sets));
    let entries = entries.collect::<Result<_, _>>()?;
    Ok(ENTRIES.get_or_init(|| entries))
}

/// The dataset with this name; a leading `mini/` is not part of a name and is rejected like any unknown name.
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

/// Parses one entry from the text of a registry file; `file` is its name for messages.
///
/// # Errors
/// [`DataError::Registry`]: invalid YAML, an unknown or missing field, no class, or a name that differs from the
/// file's.
pub fn parse_dataset(file: &str, text: &str) -> Result<DatasetEntry, DataError> {
    let fault = |reason: String| DataError::Registry { file: file.to_owned(), reason };
    let entry: DatasetEntry = serde_yaml::from_str(text).map_err(|error| fault(error.to_string()))?;
    if format!("{}.yaml", entry.name) != file {
        return Err(fault(format!("the name of the entry is `{}`", entry.name)));
    }
    if (entry.suite == Suite::Vl) != entry.questions.is_some() {
        return Err(fault(
            "`questions` is required for the data sets of the suite vl, and only for them".to_owned(),
        ));
    }
    match (entry.questions, entry.classes) {
        (None, 0..2) => {
            return Err(fault(format!(
                "a data set needs at least two classes, this one has {}",
                entry.classes
            )));
        }
        (Some(_), 1..) => {
            return Err(fault("a data set with `questions` has free-form answers and no classes".to_owned()));
        }
        _ => {}
    }
    if let ClassNames::Listed(names) = &entry.class_names
        && names.len() != entry.classes as usize
    {
        return Err(fault(format!("{} class names for {} classes", names.len(), entry.classes)));
    }
    if (entry.suite == Suite::Commonsense) != entry.text.is_some() {
        return Err(fault(
            "`text` is required for the data sets of the suite commonsense, and only for them".to_owned(),
        ));
    }
    entry.sources.iter().try_for_each(|source| source.check().map_err(&fault))?;
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn official(suite: Suite) -> Vec<&'static DatasetEntry> {
        datasets().unwrap().iter().filter(|entry| entry.official && entry.suite == suite).collect()
    }

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
        assert!(entries.iter().map(|entry| (entry.suite, entry.order)).is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn vtab_has_nineteen_official_data_sets_in_groups_of_seven_four_and_eight() {
        let official: Vec<_> = official(Suite::Vtab);
        let count = |group| official.iter().filter(|entry| entry.group == group).count();
        assert_eq!((count(Group::Natural), count(Group::Specialized), count(Group::Structured)), (7, 4, 8));
        assert!(official.iter().all(|entry| entry.mini.is_some() && entry.splits.is_some()));
    }

    #[test]
    fn the_paper_has_twenty_five_data_sets() {
        let sizes = [Suite::Vtab, Suite::Fgvc, Suite::Gic].map(|suite| official(suite).len());
        assert_eq!(sizes, [19, 5, 1]);
    }

    #[test]
    fn eight_data_sets_are_text_with_answers_as_classes() {
        let entries = official(Suite::Commonsense);
        assert_eq!(entries.len(), 8);
        for entry in entries {
            let text = entry.text.unwrap();
            let answers: Vec<String> =
                text.answers.options().take(entry.classes as usize).map(str::to_owned).collect();
            assert_eq!(entry.class_names, ClassNames::Listed(answers), "{}", entry.name);
        }
    }

    #[test]
    fn a_text_data_set_without_an_answer_format_is_rejected() {
        let (file, text) = FILES.iter().find(|(file, _)| *file == "piqa.yaml").unwrap();
        let text: String =
            text.lines().filter(|line| !line.starts_with("text:")).collect::<Vec<_>>().join("\n");
        let message = parse_dataset(file, &text).unwrap_err().to_string();
        assert!(message.contains("`text`"), "{message}");
    }

    #[test]
    fn the_seven_question_data_sets_are_named_after_their_benchmarks() {
        let entries = official(Suite::Vl);
        let forms: Vec<_> = entries.iter().map(|entry| entry.questions.unwrap().form).collect();
        assert_eq!(forms, Benchmark::ALL.map(QuestionForm::Benchmark));
        for (entry, benchmark) in entries.iter().zip(Benchmark::ALL) {
            assert_eq!((entry.name.as_str(), entry.classes), (benchmark.name(), 0));
        }
    }

    #[test]
    fn questions_with_classes_and_entries_with_neither_are_rejected() {
        let (file, text) = FILES.iter().find(|(file, _)| *file == "gqa.yaml").unwrap();
        let message =
            parse_dataset(file, &text.replace("metric:", "classes: 3\nmetric:")).unwrap_err().to_string();
        assert!(message.contains("no classes"), "{message}");
        let without: Vec<_> = text.lines().filter(|line| !line.starts_with("questions:")).collect();
        let message = parse_dataset(file, &without.join("\n")).unwrap_err().to_string();
        assert!(message.contains("`questions`"), "{message}");
    }

    #[test]
    fn class_counts_are_those_of_the_benchmark() {
        let expected = [
            100, 102, 47, 102, 37, 10, 397, 2, 10, 45, 5, 8, 6, 6, 4, 16, 16, 18, 9, 10, 7, 6, 200, 555, 102,
            120, 196, 100, 1000, 2, 2, 3, 4, 2, 5, 5, 4,
        ];
        let with_classes = datasets().unwrap().iter().filter(|entry| entry.questions.is_none());
        let classes: Vec<u32> = with_classes.map(|entry| entry.classes).collect();
        assert_eq!(classes, expected);
    }

    #[test]
    fn the_splits_use_every_image_of_the_original() {
        for entry in datasets().unwrap().iter().filter(|entry| entry.suite != Suite::Vtab) {
            let (Some(splits), Some(original)) = (entry.splits, &entry.original) else { continue };
            assert_eq!(
                splits.train + splits.val,
                original.counts.train + original.counts.val,
                "{}",
                entry.name
            );
            assert_eq!(splits.test, original.counts.test, "{}", entry.name);
        }
    }

    #[test]
    fn every_data_set_has_a_download_or_manual_instructions() {
        for entry in datasets().unwrap() {
            assert!(!entry.sources.is_empty() || entry.manual.is_some(), "{}", entry.name);
        }
    }

    #[test]
    fn every_file_of_the_folder_shared_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/shared");
        let files = std::fs::read_dir(folder).unwrap();
        let on_disk: BTreeSet<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(on_disk, SHARED.iter().map(|(file, _)| (*file).to_owned()).collect());
    }

    #[test]
    fn the_archive_of_vtab_has_the_folders_of_its_nineteen_sets() {
        let archive = shared_files().unwrap().iter().find(|shared| shared.name == "vtab-1k").unwrap();
        let sets = archive.distribution().sets;
        assert_eq!(sets.len(), 19);
        let theirs = ["cifar", "clevr_dist", "dsprites_loc", "dsprites_ori", "kitti", "smallnorb_azi"];
        let names: Vec<_> = sets.iter().flat_map(|set| &set.names).map(String::as_str).collect();
        assert!(theirs.iter().chain(&["smallnorb_ele"]).all(|name| names.contains(name)), "{names:?}");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "no name is used twice");
    }

    #[test]
    fn all_of_vtab_but_retinopathy_and_cub_are_on_the_hub() {
        let on_hub = datasets().unwrap().iter().filter(|entry| entry.hub.is_some());
        let on_hub: Vec<_> = on_hub.map(|entry| entry.name.as_str()).collect();
        assert_eq!(on_hub.len(), 19);
        assert!(on_hub.contains(&"cub_200_2011") && !on_hub.contains(&"diabetic_retinopathy"));
    }

    #[test]
    fn a_folder_outside_that_of_the_data_set_is_rejected() {
        let (file, text) = FILES.iter().find(|(file, _)| *file == "scienceqa_img.yaml").unwrap();
        for folder in ["../images", "/images", "a/../b", "''"] {
            let text = text.replace("into: images", &format!("into: {folder}"));
            let message = parse_dataset(file, &text).unwrap_err().to_string();
            assert!(message.contains("is not a folder within"), "{message}");
        }
    }

    #[test]
    fn a_malformed_checksum_is_rejected() {
        let text = FILES[0].1.replace("sha256: 58", "sha256: 5");
        let message = parse_dataset("cifar100.yaml", &text).unwrap_err().to_string();
        assert!(message.contains("sha256") && message.contains("64"), "{message}");
    }

    #[test]
    fn a_wrong_number_of_class_names_is_rejected() {
        let (file, text) = FILES.iter().find(|(file, _)| *file == "eurosat.yaml").unwrap();
        let message = parse_dataset(file, &text.replace("[AnnualCrop, ", "[")).unwrap_err().to_string();
        assert!(message.contains("9 class names for 10 classes"), "{message}");
    }

    #[test]
    fn the_committed_catalogue_equals_the_registry() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../DATASETS.md");
        let committed = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            committed,
            catalogue(datasets().unwrap(), shared_files().unwrap()),
            "san datasets --markdown > DATASETS.md"
        );
    }

    #[test]
    fn an_unknown_field_is_reported() {
        let text = FILES[0].1.replace("classes:", "colour: red\nclasses:");
        let message = parse_dataset("cifar100.yaml", &text).unwrap_err().to_string();
        assert!(message.starts_with("datasets/cifar100.yaml: ") && message.contains("colour"), "{message}");
    }

    #[test]
    fn an_unknown_field_of_a_generator_is_reported() {
        let text = FILES[0].1.replace("portrayal:", "colour: red, portrayal:");
        let message = parse_dataset("cifar100.yaml", &text).unwrap_err().to_string();
        assert!(message.contains("colour"), "{message}");
    }

    #[test]
    fn an_unknown_data_set_is_reported_with_the_nearest_name() {
        let message = dataset("cifar10").unwrap_err().to_string();
        assert!(message.contains("`cifar10`") && message.contains("`cifar100`"), "{message}");
    }
}
