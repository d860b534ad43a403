//! What can go wrong between a folder of records and a finished table or figure.

use std::path::PathBuf;

use crate::record::RecordError;

/// A comparison could not be made or written. Each message is one sentence that names the
/// faulty file; `source` holds the cause where there is one.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A folder could not be listed.
    #[error("cannot list the folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A record is missing a field, is truncated or cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The fields of a record contradict each other.
    #[error("{path} is not a valid record: {reason}")]
    Unsound {
        /// The record's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A plan cannot be read.
    #[error("{path} is not a valid run plan: {reason}; remove it, and `san run` writes a new one")]
    Plan {
        /// The plan's file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Two records are for the same position in the table.
    #[error(
        "two records exist for {place}: {first} and {second} (they differ in {differing}); compare one folder \
         of runs at a time, or move one of them away"
    )]
    Duplicate {
        /// Method, data set and seed.
        place: String,
        /// One record's file.
        first: PathBuf,
        /// The other's.
        second: PathBuf,
        /// The fields of protocol and method that differ.
        differing: String,
    },
    /// Scores returned by a server cannot be read or entered.
    #[error("{path}: {reason}")]
    ServerScore {
        /// The file of the entered scores.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A filter is malformed, or names a field that no record has.
    #[error(
        "the filter `{expression}` cannot be used: {reason}; example: method in (san, lora) and seed < 3"
    )]
    Filter {
        /// The filter.
        expression: String,
        /// What is wrong.
        reason: String,
    },
    /// A column was requested that the table does not have.
    #[error("the table has no column or group of columns `{name}`; it has: {found}")]
    Column {
        /// The requested name.
        name: String,
        /// Names of the groups.
        found: String,
    },
    /// There is nothing to compare.
    #[error(
        "no finished record of experiment `{experiment}`, profile `{profile}`{backbone} under {runs}; {found}"
    )]
    Empty {
        /// The searched folder.
        runs: PathBuf,
        /// The requested experiment.
        experiment: String,
        /// The requested profile.
        profile: String,
        /// The requested backbone, as a phrase; empty for any.
        backbone: String,
        /// What was found instead.
        found: String,
    },
    /// The adapter file of a run cannot be read for a figure.
    #[error("cannot read gammas from {path}: {reason}")]
    Adapter {
        /// The adapter file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The answers of a run cannot be compared.
    #[error("cannot read the predictions {path}: {reason}")]
    Predictions {
        /// The predictions' file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A curve or another file that a figure is drawn from is damaged.
    #[error("cannot draw from {path}: {reason}")]
    Drawing {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file could not be written, or a figure could not be drawn into it.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A table could not be laid out in its format.
    #[error("cannot format {what}: {reason}")]
    Format {
        /// The table or frame.
        what: String,
        /// Why.
        reason: String,
    },
}
