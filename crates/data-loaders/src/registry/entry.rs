//! What one file of `datasets/` says: the types behind the registry.

use serde::{Deserialize, Serialize};

use super::questions::{AnswerFormat, Benchmark, SmallSet};
use super::synthetic_task::{MiniTask, SpriteFactor};
use crate::split::SplitCounts;

/// The benchmark that a set belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// The Visual Task Adaptation Benchmark with 1,000 training images a task (VTAB-1k).
    Vtab,
    /// Five sets of fine-grained classes, in the splits of VPT (Jia et al. 2022).
    Fgvc,
    /// General image classification: CIFAR-100 whole, and ImageNet-1k by choice.
    Gic,
    /// Eight sets of questions with options, in the prompts of LLM-Adapters (Hu et al. 2023).
    Commonsense,
    /// Seven sets of questions about images, in the prompts of LLaVA-1.5 (Liu et al. 2023).
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
        }
    }

    /// The folder of its sets under the folder of all data, by this project's custom.
    pub fn folder(self) -> std::path::PathBuf {
        match self {
            Self::Vtab | Self::Fgvc | Self::Gic => std::path::Path::new("vision").join(self.name()),
            Self::Commonsense | Self::Vl => self.name().into(),
        }
    }
}

/// A group of sets over which a mean is taken: VTAB's three (Zhai et al. 2019, section 2), and one for each other suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Photographs of things and places.
    Natural,
    /// Images of special equipment: microscopes, satellites.
    Specialized,
    /// Questions about the structure of a scene.
    Structured,
    /// Classes that differ in small parts (FGVC).
    FineGrained,
    /// Everyday classes (GIC).
    General,
    /// Everyday knowledge, in words.
    Commonsense,
    /// Questions about images, answered in words.
    VisionLanguage,
}

/// How predictions are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of samples whose most probable class is the label.
    Accuracy,
    /// Mean score of the answers by the benchmark's own rule (POPE: mean F1 of its parts).
    Score,
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
    /// Name of its folder on disk, where that is not `name`: two suites may read one folder.
    #[serde(default)]
    pub folder: Option<String>,
    /// Number of classes; labels lie in `0..classes`. 0 for questions about images, whose answers are free.
    #[serde(default)]
    pub classes: u32,
    /// What the labels mean.
    #[serde(default)]
    pub class_names: ClassNames,
    /// The score.
    pub metric: Metric,
    /// Where the set is usually scored otherwise.
    #[serde(default)]
    pub metric_note: Option<String>,
    /// Terms of use, in short.
    pub licence: String,
    /// Terms that have to be accepted before a download.
    #[serde(default)]
    pub terms: Option<String>,
    /// The publication to cite.
    pub citation: String,
    /// Sizes of the published splits; none for a set whose lists are our own.
    #[serde(default)]
    pub splits: Option<SplitCounts>,
    /// How its authors distribute it.
    #[serde(default)]
    pub original: Option<Original>,
    /// What can be downloaded; empty where a person has to.
    #[serde(default)]
    pub sources: Vec<Download>,
    /// What a person has to do besides, or instead.
    #[serde(default)]
    pub manual: Option<String>,
    /// The generator that draws `mini/<name>`.
    #[serde(default)]
    pub mini: Option<MiniTask>,
    /// What only sets of text have, and all of them.
    #[serde(default)]
    pub text: Option<TextEntry>,
    /// What only sets of questions about images have, and all of them.
    #[serde(default)]
    pub questions: Option<QuestionEntry>,
}

impl DatasetEntry {
    /// Name of the folder on disk.
    pub fn folder(&self) -> &str {
        self.folder.as_deref().unwrap_or(&self.name)
    }

    /// What can be fetched of it.
    pub fn distribution(&self) -> Distribution<'_> {
        Distribution {
            name: &self.name,
            folder: self.folder(),
            sources: &self.sources,
            terms: self.terms.as_deref(),
            manual: self.manual.as_deref(),
        }
    }
}

/// Files that belong together, and come into a folder of their own: those of a set, or of a published model.
#[derive(Debug, Clone, Copy)]
pub struct Distribution<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Name of the folder.
    pub folder: &'a str,
    /// What can be downloaded; empty where a person has to.
    pub sources: &'a [Download],
    /// Terms that have to be accepted before a download.
    pub terms: Option<&'a str>,
    /// What a person has to do besides, or instead.
    pub manual: Option<&'a str>,
}

/// What a set of text has besides: its parts are rows of instruction and answer, its classes the possible answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextEntry {
    /// The words that answer its questions.
    pub answers: AnswerFormat,
    /// Rows of the published test; training rows come from a file that all sets of the suite share.
    pub test_rows: usize,
}

/// What a set of questions about images has besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionEntry {
    /// Whose files are read, and whose prompts and scoring apply.
    pub form: QuestionForm,
    /// Questions of the part that published numbers are of.
    pub test_questions: usize,
}

/// A reader of questions: one of the seven benchmarks', or that of a small set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QuestionForm {
    /// Of a benchmark, whose stand-in can be drawn.
    Benchmark(Benchmark),
    /// Of a small set.
    Small(SmallSet),
}

/// The names of the classes in the order of their labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassNames {
    /// One for each label.
    Listed(Vec<String>),
    /// Where the names stand, for long lists.
    Rule(String),
}

impl Default for ClassNames {
    /// Of no class.
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// A file to download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// The official address.
    pub url: String,
    /// Bytes, where published.
    #[serde(default)]
    pub size: Option<u64>,
    /// Hexadecimal, where published.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Hexadecimal, where published; checked only in the absence of a SHA-256.
    #[serde(default)]
    pub md5: Option<String>,
}

impl Download {
    /// Name of the file: the last part of the address.
    pub fn file_name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }

    /// What is wrong with the entry, if anything.
    pub(super) fn check(&self) -> Result<(), String> {
        let hashes = [("sha256", &self.sha256, 64), ("md5", &self.md5, 32)];
        for (name, hash, digits) in hashes {
            let Some(hash) = hash else { continue };
            let valid = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if hash.len() != digits || !hash.bytes().all(valid) {
                return Err(format!("`{hash}` is no {name}: {digits} lower-case hexadecimal digits"));
            }
        }
        let name = self.file_name();
        if name.is_empty() || name == ".." || name.contains(['?', '\\']) {
            return Err(format!("`{}` does not end with a file name", self.url));
        }
        Ok(())
    }
}

/// The original distribution of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// How it is read.
    #[serde(flatten)]
    pub format: OriginalFormat,
    /// Images that it holds, by the parts that its authors made.
    pub counts: PoolCounts,
}

/// Images in the authors' own parts; everything is in `train` where they made none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolCounts {
    /// Images to train on.
    pub train: usize,
    /// Images to choose by.
    #[serde(default)]
    pub val: usize,
    /// Images to test on.
    #[serde(default)]
    pub test: usize,
}

/// The files that authors distribute, each with what this program needs to know besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum OriginalFormat {
    /// CIFAR-100, the binary or the Python version.
    Cifar,
    /// One folder a class, no parts.
    ClassFolders {
        /// The folder that holds them, as the archive names it.
        folder: String,
    },
    /// Describable Textures: `labels/{train,val,test}1.txt`.
    Dtd,
    /// SUN397: `ClassName.txt` and `Training_01.txt`, `Testing_01.txt`.
    Sun397,
    /// SVHN, cropped digits: `{train,test}_32x32.mat`.
    Svhn,
    /// Oxford 102 Flowers: `imagelabels.mat`, `setid.mat`.
    Flowers,
    /// Oxford-IIIT Pet: `annotations/{trainval,test}.txt`.
    Pets,
    /// PatchCamelyon: `camelyonpatch_level_2_split_*_{x,y}.h5`.
    PatchCamelyon,
    /// Diabetic Retinopathy Detection: `trainLabels.csv`, `retinopathy_solution.csv`.
    Retinopathy,
    /// CLEVR 1.0: `scenes/CLEVR_{train,val}_scenes.json`.
    Clevr {
        /// What is asked of a scene.
        question: ClevrQuestion,
    },
    /// KITTI 2D objects: `training/label_2/*.txt`; the question is VTAB's, the distance of the closest vehicle.
    Kitti,
    /// dSprites: one `.npz`.
    Dsprites {
        /// The factor to predict.
        factor: SpriteFactor,
    },
    /// Small NORB: `smallnorb-*-{dat,cat,info}.mat`.
    SmallNorb {
        /// The factor to predict.
        factor: NorbFactor,
    },
    /// CUB-200-2011: `images.txt`, `image_class_labels.txt`, `train_test_split.txt`.
    Cub,
    /// NABirds: the same files, with other names of images and sparse class ids.
    Nabirds,
    /// Stanford Dogs: `train_list.mat`, `test_list.mat`.
    StanfordDogs,
    /// Stanford Cars: `cars_train_annos.mat`, `cars_test_annos_withlabels.mat`.
    StanfordCars,
}

/// What VTAB asks of a CLEVR scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClevrQuestion {
    /// The number of objects, 3 to 10.
    Count,
    /// The depth of the closest object, in six bins.
    Distance,
}

/// What VTAB asks of a Small NORB image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NorbFactor {
    /// One of 18 directions.
    Azimuth,
    /// One of 9 heights of the camera.
    Elevation,
}
