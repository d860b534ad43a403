//! The types of the registry: the schema of the files in `datasets/`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::registry::download::{Distribution, Download, HubRepository};
use crate::registry::original::Original;
use crate::registry::questions::{AnswerFormat, Benchmark, SmallSet};
use crate::registry::synthetic_task::MiniTask;
use crate::split::SplitCounts;

/// The benchmark that a dataset belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// The Visual Task Adaptation Benchmark with 1,000 training images per task (VTAB-1k).
    Vtab,
    /// Five fine-grained classification datasets, in the splits of VPT (Jia et al. 2022).
    Fgvc,
    /// General image classification: the full CIFAR-100, and optionally ImageNet-1k.
    Gic,
    /// Eight multiple-choice datasets, with the prompts of LLM-Adapters (Hu et al. 2023).
    Commonsense,
    /// A set of one's own.
    Own,
    /// Seven datasets of questions about images, with the prompts of LLaVA-1.5 (Liu et al. 2023).
    Vl,
}

impl Suite {
    /// The name in files and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vtab => "vtab",
            Self::Fgvc => "fgvc",
            Self::Gic => "gic",
            Self::Commonsense => "commonsense",
            Self::Vl => "vl",
            Self::Own => "own",
        }
    }

    /// The folder of its datasets under the data root, by this project's convention.
    pub fn folder(self) -> PathBuf {
        match self {
            Self::Vtab | Self::Fgvc | Self::Gic | Self::Own => Path::new("vision").join(self.name()),
            Self::Commonsense | Self::Vl => self.name().into(),
        }
    }
}

/// A group of datasets that are averaged: VTAB's three (Zhai et al. 2019, section 2), and one for each other suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Photographs of objects and places.
    Natural,
    /// Images from special equipment: microscopes, satellites.
    Specialized,
    /// Questions about the structure of a scene.
    Structured,
    /// Fine-grained classes (FGVC).
    FineGrained,
    /// Everyday classes (GIC).
    General,
    /// Commonsense questions in text.
    Commonsense,
    /// Questions about images, answered in text.
    VisionLanguage,
}

/// How predictions are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Top-1 accuracy.
    Accuracy,
    /// Mean score of the answers by the benchmark's own rule (POPE: mean F1 over its parts).
    Score,
}

/// One dataset, as described by `datasets/<name>.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetEntry {
    /// The identifier: name of the YAML file and of the folder on disk.
    pub name: String,
    /// The name printed in tables.
    pub title: String,
    /// The benchmark.
    pub suite: Suite,
    /// Whether the dataset is part of the benchmark itself; stand-ins are not, and are left out of its columns and
    /// averages.
    pub official: bool,
    /// The group within the benchmark.
    pub group: Group,
    /// Column position in a table, unique within the suite.
    pub order: u32,
    /// Name of the folder on disk if it differs from `name`: two suites may share a folder.
    #[serde(default)]
    pub folder: Option<String>,
    /// Names of its folder in other copies, such as the published archive of VTAB-1k.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_folders: Vec<String>,
    /// Number of classes; labels lie in `0..classes`. 0 for questions about images, whose answers are free-form.
    #[serde(default)]
    pub classes: u32,
    /// What the labels mean.
    #[serde(default)]
    pub class_names: ClassNames,
    /// The metric.
    pub metric: Metric,
    /// A note if the dataset is usually scored differently.
    #[serde(default)]
    pub metric_note: Option<String>,
    /// Terms of use, in short.
    pub licence: String,
    /// Terms that have to be accepted before a download.
    #[serde(default)]
    pub terms: Option<String>,
    /// The publication to cite.
    pub citation: String,
    /// Sizes of the published splits; `None` for a dataset with split lists of our own.
    #[serde(default)]
    pub splits: Option<SplitCounts>,
    /// The original distribution.
    #[serde(default)]
    pub original: Option<Original>,
    /// The downloads; empty if a manual download is required.
    #[serde(default)]
    pub sources: Vec<Download>,
    /// The same images as tables on the Hugging Face Hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<HubTables>,
    /// Manual steps, in addition to the downloads or instead of them.
    #[serde(default)]
    pub manual: Option<String>,
    /// The generator of `mini/<name>`.
    #[serde(default)]
    pub mini: Option<MiniTask>,
    /// Text datasets only, and required for them.
    #[serde(default)]
    pub text: Option<TextEntry>,
    /// Datasets of questions about images only, and required for them.
    #[serde(default)]
    pub questions: Option<QuestionEntry>,
}

impl DatasetEntry {
    /// An entry for data of one's own, with what is not known left empty.
    pub(crate) fn own(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: name.to_owned(),
            suite: Suite::Own,
            official: false,
            group: Group::General,
            order: 0,
            folder: None,
            other_folders: Vec::new(),
            classes: 0,
            class_names: ClassNames::default(),
            metric: Metric::Accuracy,
            metric_note: None,
            licence: "unknown".into(),
            terms: None,
            citation: "unknown".into(),
            splits: None,
            original: None,
            sources: Vec::new(),
            hub: None,
            manual: None,
            mini: None,
            text: None,
            questions: None,
        }
    }

    /// Name of the folder on disk.
    pub fn folder(&self) -> &str {
        self.folder.as_deref().unwrap_or(&self.name)
    }

    /// The folders under `root` that could be its own: of its own name or another one that copies of it have, also one
    /// level further down, where the published archive of VTAB-1k unpacks to.
    pub fn folders(&self, root: &Path) -> Vec<PathBuf> {
        let names = std::iter::once(self.folder()).chain(self.other_folders.iter().map(String::as_str));
        let places = names.flat_map(|name| [root.join(name), root.join("vtab-1k").join(name)]);
        places.filter(|place| place.is_dir()).collect()
    }

    /// The files that can be fetched.
    pub fn distribution(&self) -> Distribution<'_> {
        Distribution {
            name: &self.name,
            folder: self.folder(),
            sources: &self.sources,
            repository: None,
            sets: &[],
            terms: self.terms.as_deref(),
            manual: self.manual.as_deref(),
        }
    }

    /// Its tables on the Hugging Face Hub, instead of the original files; `None` if there are none.
    pub fn hub_distribution(&self) -> Option<Distribution<'_>> {
        let repository = Some(&self.hub.as_ref()?.repository);
        Some(Distribution { sources: &[], repository, manual: None, ..self.distribution() })
    }
}

/// A dataset as tables (Parquet) on the Hugging Face Hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubTables {
    /// The repository.
    pub repository: HubRepository,
    /// Name of the image column.
    pub image: String,
    /// Name of the label column.
    pub label: String,
    /// The tables of each part.
    #[serde(default)]
    pub parts: HubParts,
}

/// The beginning of the names of the tables of each part, before `-00000-of-00001.parquet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubParts {
    /// Train.
    pub train: String,
    /// Val; taken from train if there is none. If it is the same as test, val is its first half.
    #[serde(default)]
    pub val: Option<String>,
    /// Test; the last rows of train if there is none.
    #[serde(default)]
    pub test: Option<String>,
}

impl Default for HubParts {
    /// Train and test.
    fn default() -> Self {
        Self { train: "train".into(), val: None, test: Some("test".into()) }
    }
}

/// Extra fields of a text dataset: its samples are rows of instruction and answer, its classes the possible answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextEntry {
    /// The answer format of its questions.
    pub answers: AnswerFormat,
    /// Rows of the published test part; training rows come from a file shared by all datasets of the suite.
    pub test_rows: usize,
}

/// Extra fields of a dataset of questions about images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionEntry {
    /// The reader of its files, which also determines prompts and scoring.
    pub form: QuestionForm,
    /// Number of questions in the part that published results are reported on.
    pub test_questions: usize,
}

/// A reader of questions: one of the seven benchmarks', or that of a small dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QuestionForm {
    /// A benchmark, which may have a synthetic stand-in.
    Benchmark(Benchmark),
    /// A small dataset.
    Small(SmallSet),
}

/// The class names in label order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassNames {
    /// One name per label.
    Listed(Vec<String>),
    /// Where to find the names, for long lists.
    Rule(String),
}

impl Default for ClassNames {
    /// No classes.
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}
