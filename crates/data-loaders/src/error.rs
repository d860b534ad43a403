//! All data errors; each message is one sentence that names the dataset, the file and the line.

use std::path::PathBuf;

use thiserror::Error;

/// A fault in a dataset or its registry entry; the message is meant for the person who has to fix it.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "every field is named in the message of its variant")]
pub enum DataError {
    /// No registry entry has this name.
    #[error("there is no data set named `{name}`; the nearest known name is `{nearest}`")]
    UnknownSet { name: String, nearest: String },
    /// A registry file is not valid.
    #[error("datasets/{file}: {reason}")]
    Registry { file: String, reason: String },
    /// The registry defines no synthetic stand-in for this dataset.
    #[error("{set}: the registry defines no synthetic stand-in for this data set")]
    NoStandIn { set: String },
    /// The dataset's folder does not exist.
    #[error("{set}: the folder {} does not exist", path.display())]
    MissingFolder { set: String, path: PathBuf },
    /// Several folders could be that of the dataset.
    #[error("{set}: only one of these folders can be its own; move the others away: {}", listed(paths))]
    SeveralFolders { set: String, paths: Vec<PathBuf> },
    /// The folder has no known layout.
    #[error("{set}: {} has no supported layout: expected VTAB-1k lists (train800.txt ...), VPT lists (train.json ...), class folders (train/<class>/, test/<class>/) or Parquet tables (*train*.parquet ...){original}", path.display())]
    UnknownLayout { set: String, path: PathBuf, original: String },
    /// A file does not match its format.
    #[error("{set}: {}: {reason}", path.display())]
    BadFile { set: String, path: PathBuf, reason: String },
    /// A line or an entry of a list is invalid.
    #[error("{set}: {}:{line}: {reason}", path.display())]
    BadLine { set: String, path: PathBuf, line: usize, reason: String },
    /// A split list is missing.
    #[error("{set}: the split list {} does not exist", path.display())]
    MissingList { set: String, path: PathBuf },
    /// A split list is empty.
    #[error("{set}: the split list {} is empty", path.display())]
    EmptyList { set: String, path: PathBuf },
    /// A line is not `relative/path label`.
    #[error("{set}: {}:{line}: expected `relative/path label`, found `{found}`", path.display())]
    MalformedLine { set: String, path: PathBuf, line: usize, found: String },
    /// A label is not less than the number of classes.
    #[error("{set}: {}:{line}: label {label} is out of range for {classes} classes", path.display())]
    LabelOutOfRange { set: String, path: PathBuf, line: usize, label: u64, classes: u32 },
    /// An image path points outside the dataset's folder.
    #[error("{set}: {}:{line}: the path `{found}` points outside the folder of the data set", path.display())]
    PathEscapes { set: String, path: PathBuf, line: usize, found: String },
    /// A listed image is missing.
    #[error("{set}: {}:{line}: the image {} does not exist", path.display(), image.display())]
    MissingImage { set: String, path: PathBuf, line: usize, image: PathBuf },
    /// An image is listed twice, within one split or across splits.
    #[error("{set}: {}:{line}: the image `{image}` is already listed in {other}", path.display())]
    RepeatedImage { set: String, path: PathBuf, line: usize, image: String, other: String },
    /// `train800val200.txt` does not have the rows of the other two lists.
    #[error("{set}: {}:{line}: the row is not in {other}", path.display())]
    ListsDisagree { set: String, path: PathBuf, line: usize, other: &'static str },
    /// An image cannot be decoded or is truncated.
    #[error("{set}: the image {} cannot be decoded: {reason}", path.display())]
    BadImage { set: String, path: PathBuf, reason: String },
    /// An image named in a list cannot be decoded or is truncated.
    #[error("{set}: {}:{line}: the image {} cannot be decoded: {reason}", path.display(), image.display())]
    BadListedImage { set: String, path: PathBuf, line: usize, image: PathBuf, reason: String },
    /// The train, val or test split would be empty.
    #[error("{set}: its {part} split is empty; {} has no samples for it", path.display())]
    EmptyPart { set: String, part: &'static str, path: PathBuf },
    /// The operating system could not read a file.
    #[error("{set}: cannot read {}: {source}", path.display())]
    Read { set: String, path: PathBuf, source: std::io::Error },
    /// A row of a text file is invalid; rows count from 1.
    #[error("{set}: {}: row {row}: {reason}", path.display())]
    BadRow { set: String, path: PathBuf, row: usize, reason: String },
    /// An image dataset where a text dataset is required.
    #[error("{set}: this is an image data set, not a text data set")]
    NotText { set: String },
    /// A dataset without questions about images where one with them is required.
    #[error("{set}: this data set has no questions about images")]
    NoQuestions { set: String },
    /// A sample index is out of range for the split.
    #[error("{set}: sample {index} is out of range for the {split} split of {len} samples")]
    IndexOutOfRange { set: String, split: &'static str, index: usize, len: usize },
    /// No conversation template has this name.
    #[error("unknown conversation template `{name}`; the templates are v1, bare and plain")]
    UnknownTemplate { name: String },
    /// The image size is zero or too large to hold in memory.
    #[error("the image size {size} is not between 1 and 4096")]
    ImageSize { size: u32 },
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
