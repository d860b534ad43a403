//! One interface to rows on disk and to written ones: rows by split.
//!
//! On disk a test belongs to a set, while all sets share one file of training rows; the rows to choose by are drawn from
//! that file by a seed, as LLM-Adapters does (120 rows). So the sets of a suite have equal training rows, and each row
//! of the training file is in one of the two parts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::random::Stream;
use crate::registry::AnswerFormat;
use crate::registry::DatasetEntry;
use crate::split::{Split, SplitCounts, Splits};
use crate::text::row::{Row, read_rows};

/// Where rows lie on disk, and which are chosen by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSource {
    /// Name of the training file in `ft-training_set`, without `.json`: `commonsense_170k`, `commonsense_15k`.
    pub training_file: String,
    /// Rows of the training file to choose by; 120 as published.
    pub val_rows: usize,
    /// The seed that draws them.
    pub val_seed: u64,
    /// A part of the rows; all where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<RowLimits>,
}

/// A part of the rows or questions, for runs that cannot be long: drawn by the seed of the source, in the order of the
/// files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowLimits {
    /// Rows of the training file, those to choose by apart.
    pub train: usize,
    /// Rows of each test.
    pub test: usize,
}

impl TextSource {
    /// The path of the training file under the folder of the suite.
    pub fn training_path(&self, root: &Path) -> PathBuf {
        root.join("ft-training_set").join(format!("{}.json", self.training_file))
    }
}

/// A set of text ready to be read.
#[derive(Debug, Clone)]
pub struct TextSet {
    name: String,
    entry: DatasetEntry,
    format: AnswerFormat,
    rows: Splits<Row>,
    synthetic: bool,
    checksum: String,
}

impl TextSet {
    /// Opens `<root>/<folder>/test.json` and the training file that the sets under `root` share; every row is checked.
    ///
    /// # Errors
    /// [`DataError`] with the set, the file and the row; [`DataError::NotText`] for a set of images.
    pub fn open(entry: &DatasetEntry, root: &Path, source: &TextSource) -> Result<Self, DataError> {
        let set = &entry.name;
        let format = format_of(entry)?;
        let folder = root.join(entry.folder());
        if !folder.is_dir() {
            return Err(DataError::MissingFolder { set: set.clone(), path: folder });
        }
        let (test, test_hash) = read_rows(set, &folder.join("test.json"), Some(format))?;
        let path = source.training_path(root);
        let (rows, training_hash) = read_rows(set, &path, None)?;
        if source.val_rows >= rows.len() {
            let reason =
                format!("{} of its {} rows are to be chosen by; none is left", source.val_rows, rows.len());
            return Err(DataError::BadFile { set: set.clone(), path, reason });
        }
        let (mut train_and_val, mut train) = hold_out(rows, source.val_rows, source.val_seed);
        let mut test = test;
        let mut hasher = blake3::Hasher::new();
        hasher.update(test_hash.as_bytes()).update(training_hash.as_bytes());
        hasher.update(&(source.val_rows as u64).to_le_bytes()).update(&source.val_seed.to_le_bytes());
        if let Some(limits) = source.at_most {
            let val = train_and_val.split_off(train);
            train_and_val = drawn(train_and_val, limits.train, source.val_seed);
            train = train_and_val.len();
            train_and_val.extend(val);
            test = drawn(test, limits.test, source.val_seed);
            hasher.update(&(limits.train as u64).to_le_bytes()).update(&(limits.test as u64).to_le_bytes());
        }
        for (part, count) in [("train", train), ("test", test.len())] {
            if count == 0 {
                return Err(DataError::EmptyPart { set: set.clone(), part, path: folder });
            }
        }
        let checksum = hasher.finalize().to_hex().to_string();
        let (name, entry) = (set.clone(), entry.clone());
        let val = train_and_val.split_off(train);
        let rows = Splits::new([train_and_val, val, test]);
        Ok(Self { name, entry, format, rows, synthetic: false, checksum })
    }

    /// A set of rows that are written by this program.
    pub(crate) fn synthetic(
        name: String,
        entry: &DatasetEntry,
        rows: [Vec<Row>; 3],
        checksum: String,
    ) -> Result<Self, DataError> {
        let (format, entry) = (format_of(entry)?, entry.clone());
        Ok(Self { name, entry, format, rows: Splits::new(rows), synthetic: true, checksum })
    }

    /// The name that results carry: the set's, or `mini/<set>` for a written one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry entry.
    pub fn entry(&self) -> &DatasetEntry {
        &self.entry
    }

    /// The words that answer the questions of the test.
    pub fn format(&self) -> AnswerFormat {
        self.format
    }

    /// Whether the rows are written by this program, not real.
    pub fn is_drawn(&self) -> bool {
        self.synthetic
    }

    /// Numbers of rows in the three parts.
    pub fn counts(&self) -> SplitCounts {
        self.rows.counts()
    }

    /// The rows of a split.
    pub fn rows(&self, split: Split) -> &[Row] {
        self.rows.of(split)
    }

    /// The label of a row: the place of its answer among those of its format.
    pub fn label(row: &Row) -> Option<u32> {
        let mut options = row.format()?.options();
        options.position(|option| option == row.answer).map(|place| place as u32)
    }

    /// blake3 (hex): of the two files and of the draw of the val part, or of all written rows.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }
}

/// blake3 (hex) of the checksums of sets that one model learns from.
pub fn suite_checksum<'a, S: AsRef<TextSet> + 'a>(sets: impl IntoIterator<Item = &'a S>) -> String {
    let mut hasher = blake3::Hasher::new();
    for set in sets {
        hasher.update(set.as_ref().checksum.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The format of a set, or the error that it has none.
pub(crate) fn format_of(entry: &DatasetEntry) -> Result<AnswerFormat, DataError> {
    let text = entry.text.ok_or_else(|| DataError::NotText { set: entry.name.clone() })?;
    Ok(text.answers)
}

/// The rows with `count` of them, drawn by the seed, moved to the end; both parts keep the order of the file. The number
/// of those before them.
fn hold_out(rows: Vec<Row>, count: usize, seed: u64) -> (Vec<Row>, usize) {
    let mut held = vec![false; rows.len()];
    for place in Stream::new("text/val", &[seed]).permutation(rows.len()).into_iter().take(count) {
        held[place] = true;
    }
    let (val, mut train): (Vec<_>, Vec<_>) = rows.into_iter().zip(held).partition(|(_, held)| *held);
    let count = train.len();
    train.extend(val);
    (train.into_iter().map(|(row, _)| row).collect(), count)
}

/// At most `count` rows, drawn by the seed, in the order in which they stood.
fn drawn(rows: Vec<Row>, count: usize, seed: u64) -> Vec<Row> {
    if rows.len() <= count {
        return rows;
    }
    let (mut rows, others) = hold_out(rows, count, seed);
    rows.split_off(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_to_choose_by_are_drawn_by_the_seed_and_no_row_is_lost() {
        let rows: Vec<Row> = (0..50).map(|n| Row::new(format!("question {n}"), "true")).collect();
        let (drawn, train) = hold_out(rows.clone(), 12, 7);
        assert_eq!((drawn.len(), train), (50, 38));
        assert_eq!(hold_out(rows.clone(), 12, 7).0, drawn);
        assert_ne!(hold_out(rows.clone(), 12, 8).0, drawn);
        let mut names: Vec<_> = drawn.iter().map(|row| row.instruction.clone()).collect();
        assert_ne!(names, rows.iter().map(|row| row.instruction.clone()).collect::<Vec<_>>());
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 50);
    }
}
