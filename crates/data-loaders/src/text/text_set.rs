//! One interface to rows on disk and generated rows, by split.
//!
//! On disk a test part belongs to a dataset, while all datasets share one file of training rows; the validation rows
//! are sampled from that file with a seed, as in LLM-Adapters (120 rows). So the datasets of a suite have the same
//! training rows, and each row of the training file is in one of the two parts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::random::Stream;
use crate::registry::AnswerFormat;
use crate::registry::DatasetEntry;
use crate::split::{Split, SplitCounts, Splits};
use crate::text::row::{Row, read_rows};

/// The training file and the validation split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSource {
    /// Name of the training file in `ft-training_set`, without `.json`: `commonsense_170k`, `commonsense_15k`.
    pub training_file: String,
    /// Number of validation rows sampled from the training file; 120 as published.
    pub val_rows: usize,
    /// The seed for sampling them.
    pub val_seed: u64,
    /// A subset of the rows; all of them if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<RowLimits>,
}

/// A subset of the rows or questions, for short runs: sampled with the source's seed, in file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowLimits {
    /// Rows of the training file, excluding validation rows.
    pub train: usize,
    /// Rows of each test part.
    pub test: usize,
}

impl TextSource {
    /// The path of the training file under the suite's folder.
    pub fn training_path(&self, root: &Path) -> PathBuf {
        root.join("ft-training_set").join(format!("{}.json", self.training_file))
    }
}

/// An opened text dataset.
#[derive(Debug, Clone)]
pub struct TextSet {
    name: String,
    entry: DatasetEntry,
    /// `None` for one's own rows.
    format: Option<AnswerFormat>,
    rows: Splits<Row>,
    synthetic: bool,
    checksum: String,
}

impl TextSet {
    /// Opens `<root>/<folder>/test.json` and the training file that the datasets under `root` share; every row is
    /// checked.
    ///
    /// # Errors
    /// [`DataError`] with the dataset, the file and the row; [`DataError::NotText`] for an image dataset.
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
            let reason = format!(
                "{} of its {} rows are held out for validation, so none is left for training",
                source.val_rows,
                rows.len()
            );
            return Err(DataError::BadFile { set: set.clone(), path, reason });
        }
        let (mut train_and_val, mut train) = hold_out(rows, source.val_rows, source.val_seed);
        let mut test = test;
        let mut hasher = blake3::Hasher::new();
        hasher.update(test_hash.as_bytes()).update(training_hash.as_bytes());
        hasher.update(&(source.val_rows as u64).to_le_bytes()).update(&source.val_seed.to_le_bytes());
        if let Some(limits) = source.at_most {
            let val = train_and_val.split_off(train);
            train_and_val = sample(train_and_val, limits.train, source.val_seed);
            train = train_and_val.len();
            train_and_val.extend(val);
            test = sample(test, limits.test, source.val_seed);
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
        Ok(Self { name, entry, format: Some(format), rows, synthetic: false, checksum })
    }

    /// A set of one's own rows.
    pub(super) fn own(entry: DatasetEntry, rows: [Vec<Row>; 3], checksum: String) -> Self {
        let rows = Splits::new(rows);
        Self { name: entry.name.clone(), entry, format: None, rows, synthetic: false, checksum }
    }

    /// A dataset of generated rows.
    pub(crate) fn synthetic(
        name: String,
        entry: &DatasetEntry,
        rows: [Vec<Row>; 3],
        checksum: String,
    ) -> Result<Self, DataError> {
        let (format, entry) = (Some(format_of(entry)?), entry.clone());
        Ok(Self { name, entry, format, rows: Splits::new(rows), synthetic: true, checksum })
    }

    /// The name used in results: the dataset's, or `mini/<set>` for a synthetic one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry entry.
    pub fn entry(&self) -> &DatasetEntry {
        &self.entry
    }

    /// The answer format of the test questions; `None` for one's own rows.
    pub fn format(&self) -> Option<AnswerFormat> {
        self.format
    }

    /// Whether the rows are generated, not real.
    pub fn is_synthetic(&self) -> bool {
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

    /// blake3 (hex) of the two files and the sampling of the val part, or of all generated rows.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }
}

/// blake3 (hex) of the checksums of the datasets that one model is trained on.
pub fn suite_checksum<'a, S: AsRef<TextSet> + 'a>(sets: impl IntoIterator<Item = &'a S>) -> String {
    let mut hasher = blake3::Hasher::new();
    for set in sets {
        hasher.update(set.as_ref().checksum.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The format of a dataset, or an error if it has none.
pub(crate) fn format_of(entry: &DatasetEntry) -> Result<AnswerFormat, DataError> {
    let text = entry.text.ok_or_else(|| DataError::NotText { set: entry.name.clone() })?;
    Ok(text.answers)
}

/// Moves `count` rows, sampled with the seed, to the end; both parts keep the file order. Returns the rows and the
/// number of rows in the first part.
pub(super) fn hold_out(rows: Vec<Row>, count: usize, seed: u64) -> (Vec<Row>, usize) {
    let mut held_out = vec![false; rows.len()];
    for place in Stream::new("text/val", &[seed]).permutation(rows.len()).into_iter().take(count) {
        held_out[place] = true;
    }
    let (val, mut train): (Vec<_>, Vec<_>) =
        rows.into_iter().zip(held_out).partition(|(_, held_out)| *held_out);
    let count = train.len();
    train.extend(val);
    (train.into_iter().map(|(row, _)| row).collect(), count)
}

/// At most `count` rows, sampled with the seed, in their original order.
fn sample(rows: Vec<Row>, count: usize, seed: u64) -> Vec<Row> {
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
    fn validation_rows_are_sampled_by_seed_and_no_row_is_lost() {
        let rows: Vec<Row> = (0..50).map(|n| Row::new(format!("question {n}"), "true")).collect();
        let (sample, train) = hold_out(rows.clone(), 12, 7);
        assert_eq!((sample.len(), train), (50, 38));
        assert_eq!(hold_out(rows.clone(), 12, 7).0, sample);
        assert_ne!(hold_out(rows.clone(), 12, 8).0, sample);
        let mut names: Vec<_> = sample.iter().map(|row| row.instruction.clone()).collect();
        assert_ne!(names, rows.iter().map(|row| row.instruction.clone()).collect::<Vec<_>>());
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 50);
    }
}
