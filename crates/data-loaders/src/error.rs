//! Everything that can be wrong with data, each case one sentence that names the set, the file and the line.

use std::path::PathBuf;

use thiserror::Error;

/// A fault in a data set or its registry entry; the message is meant for the person who has to mend it.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "every field is named in the message of its variant")]
pub enum DataError {
    /// No registry entry has this name.
    #[error("there is no data set named `{name}`; the nearest known name is `{nearest}`")]
    UnknownSet { name: String, nearest: String },
    /// A registry file is not valid.
    #[error("datasets/{file}: {reason}")]
    Registry { file: String, reason: String },
    /// The registry gives no drawn stand-in for this set.
    #[error("{set}: the registry defines no drawn stand-in for this set")]
    NoStandIn { set: String },
    /// The folder of the set is not there.
    #[error("{set}: the folder {} does not exist", path.display())]
    MissingFolder { set: String, path: PathBuf },
    /// The folder holds nothing that is known.
    #[error("{set}: {} holds no layout that is read: VTAB-1k lists (train800.txt ...), VPT lists (train.json ...), class folders (train/<class>/, test/<class>/), Parquet tables (*train*.parquet ...){original}", path.display())]
    UnknownLayout { set: String, path: PathBuf, original: String },
    /// A file is not what its format says.
    #[error("{set}: {}: {reason}", path.display())]
    BadFile { set: String, path: PathBuf, reason: String },
    /// A line, or an entry, of a list is wrong.
    #[error("{set}: {}:{line}: {reason}", path.display())]
    BadLine { set: String, path: PathBuf, line: usize, reason: String },
    /// A split list is not there.
    #[error("{set}: the split list {} does not exist", path.display())]
    MissingList { set: String, path: PathBuf },
    /// A split list holds no line.
    #[error("{set}: the split list {} is empty", path.display())]
    EmptyList { set: String, path: PathBuf },
    /// A line is not `relative/path label`.
    #[error("{set}: {}:{line}: expected `relative/path label`, found `{found}`", path.display())]
    MalformedLine { set: String, path: PathBuf, line: usize, found: String },
    /// A label is not below the number of classes.
    #[error("{set}: {}:{line}: label {label} is out of range for a set of {classes} classes", path.display())]
    LabelOutOfRange { set: String, path: PathBuf, line: usize, label: u64, classes: u32 },
    /// An image path leaves the folder of the set.
    #[error("{set}: {}:{line}: the path `{found}` leaves the folder of the set", path.display())]
    PathEscapes { set: String, path: PathBuf, line: usize, found: String },
    /// A listed image is not there.
    #[error("{set}: {}:{line}: the image {} does not exist", path.display(), image.display())]
    MissingImage { set: String, path: PathBuf, line: usize, image: PathBuf },
    /// An image is listed twice, within a split or in two of them.
    #[error("{set}: {}:{line}: the image `{image}` is listed already, in {other}", path.display())]
    RepeatedImage { set: String, path: PathBuf, line: usize, image: String, other: String },
    /// `train800val200.txt` is not the union of the two other lists.
    #[error("{set}: {} is not train800.txt followed by val200.txt (first difference: line {line})", path.display())]
    ListsDisagree { set: String, path: PathBuf, line: usize },
    /// An image cannot be decoded, or is cut short.
    #[error("{set}: the image {} cannot be decoded: {reason}", path.display())]
    BadImage { set: String, path: PathBuf, reason: String },
    /// An image that a list names cannot be decoded, or is cut short.
    #[error("{set}: {}:{line}: the image {} cannot be decoded: {reason}", path.display(), image.display())]
    BadListedImage { set: String, path: PathBuf, line: usize, image: PathBuf, reason: String },
    /// Nothing would be trained on, chosen by or tested on.
    #[error("{set}: its {part} part is empty; {} gives it nothing", path.display())]
    EmptyPart { set: String, part: &'static str, path: PathBuf },
    /// The operating system refused to read a file.
    #[error("{set}: cannot read {}: {source}", path.display())]
    Read { set: String, path: PathBuf, source: std::io::Error },
    /// A row of a file of text is wrong; rows count from 1.
    #[error("{set}: {}: row {row}: {reason}", path.display())]
    BadRow { set: String, path: PathBuf, row: usize, reason: String },
    /// A set of images where one of text is wanted.
    #[error("{set}: this set holds images, not text")]
    NotText { set: String },
    /// A set without questions about images where one of them is wanted.
    #[error("{set}: this set holds no questions about images")]
    NoQuestions { set: String },
    /// A sample index is not in the split.
    #[error("{set}: sample {index} was asked of the {split} split, which has {len}")]
    IndexOutOfRange { set: String, split: &'static str, index: usize, len: usize },
    /// No conversation template has this name.
    #[error("there is no conversation template `{name}`; known are v1, bare and plain")]
    UnknownTemplate { name: String },
    /// An image size of zero, or one too large to hold in memory.
    #[error("the image size {size} is not between 1 and 4096")]
    ImageSize { size: u32 },
}
