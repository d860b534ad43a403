//! Everything that can go wrong on the way from a server to a folder, each case one sentence.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A fetch that did not end well; the message is meant for the person who asked for it.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "every field is named in the message of its variant")]
pub enum FetchError {
    /// The word after `--from` means nothing.
    #[error("`{word}` is neither a web address nor a file or folder that is there")]
    Mirror { word: String },
    /// Terms have not been accepted.
    #[error("{set}: its terms have to be accepted first: {terms}; with --accept-licence you do")]
    Terms { set: String, terms: String },
    /// There is no address to load from.
    #[error("{set}: it has to be had by hand: {reason}")]
    ByHand { set: String, reason: String },
    /// A local archive is none of the set's.
    #[error("{set}: {} is none of its files, which are {expected}", path.display())]
    OtherArchive { set: String, path: PathBuf, expected: String },
    /// The server did not give the file.
    #[error("{set}: {url}: {reason}")]
    Download { set: String, url: String, reason: String },
    /// A file is not the one that the registry describes, by its size or its checksum, or not of the kind that it should be.
    #[error("{set}: {}: {reason}", path.display())]
    Mismatch { set: String, path: PathBuf, reason: String },
    /// An archive, or one entry of it, is refused.
    #[error("{set}: {}: {reason}", path.display())]
    Archive { set: String, path: PathBuf, reason: String },
    /// Another fetch has the lock.
    #[error("{set}: another fetch is working on {}; wait until it has ended", path.display())]
    Busy { set: String, path: PathBuf },
    /// Something lies where the set should go.
    #[error("{set}: {} is in the way; move it away, or look at it with `san verify {set}`", path.display())]
    InTheWay { set: String, path: PathBuf },
    /// A file cannot be read.
    #[error("{set}: cannot read {}: {source}", path.display())]
    Read { set: String, path: PathBuf, source: std::io::Error },
    /// A file cannot be written.
    #[error("{set}: cannot write {}: {source}", path.display())]
    Write { set: String, path: PathBuf, source: std::io::Error },
    /// The watcher asked to stop.
    #[error("{set}: stopped; the same command resumes from here")]
    Stopped { set: String },
}

/// Names the path in an error of writing.
pub(super) fn writing<T>(set: &str, path: &Path, result: std::io::Result<T>) -> Result<T, FetchError> {
    result.map_err(|source| FetchError::Write { set: set.to_owned(), path: path.to_owned(), source })
}

/// Names the path in an error of reading.
pub(super) fn reading<T>(set: &str, path: &Path, result: std::io::Result<T>) -> Result<T, FetchError> {
    result.map_err(|source| FetchError::Read { set: set.to_owned(), path: path.to_owned(), source })
}
