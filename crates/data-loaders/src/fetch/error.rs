//! All errors that can occur between server and folder; each message is one sentence.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A failed fetch; the message is meant for the user.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "every field is named in the message of its variant")]
pub enum FetchError {
    /// The argument of `--from` is invalid.
    #[error("`{word}` is neither a URL nor an existing file or folder")]
    Mirror { word: String },
    /// The terms have not been accepted.
    #[error("{set}: its terms must be accepted first: {terms}; accept them with --accept-licence")]
    Terms { set: String, terms: String },
    /// There is no URL to download from.
    #[error("{set}: it must be downloaded manually: {reason}")]
    ByHand { set: String, reason: String },
    /// A local archive does not belong to the dataset.
    #[error("{set}: {} is not one of its files ({expected})", path.display())]
    OtherArchive { set: String, path: PathBuf, expected: String },
    /// The server did not deliver the file.
    #[error("{set}: {url}: {reason}")]
    Download { set: String, url: String, reason: String },
    /// A file does not match the registry in size or checksum, or is of the wrong type.
    #[error("{set}: {}: {reason}", path.display())]
    Mismatch { set: String, path: PathBuf, reason: String },
    /// An archive or one of its entries is rejected.
    #[error("{set}: {}: {reason}", path.display())]
    Archive { set: String, path: PathBuf, reason: String },
    /// Another fetch holds the lock.
    #[error("{set}: another fetch is using {}; wait until it has finished", path.display())]
    Busy { set: String, path: PathBuf },
    /// The dataset's target path is occupied.
    #[error("{set}: {} already exists; move it away, or check it with `san verify {set}`", path.display())]
    InTheWay { set: String, path: PathBuf },
    /// The disk is too small.
    #[error("{set}: {} has {free} bytes free, but at least {needed} are needed: {download} to download, {unpack} to unpack", path.display())]
    Space { set: String, path: PathBuf, free: u64, needed: u64, download: u64, unpack: u64 },
    /// A file cannot be read.
    #[error("{set}: cannot read {}: {source}", path.display())]
    Read { set: String, path: PathBuf, source: std::io::Error },
    /// A file cannot be written.
    #[error("{set}: cannot write {}: {source}", path.display())]
    Write { set: String, path: PathBuf, source: std::io::Error },
    /// The callback requested a stop.
    #[error("{set}: stopped; run the same command again to resume")]
    Stopped { set: String },
}

/// Adds the path to a write error.
pub(super) fn writing<T>(set: &str, path: &Path, result: std::io::Result<T>) -> Result<T, FetchError> {
    result.map_err(|source| FetchError::Write { set: set.to_owned(), path: path.to_owned(), source })
}

/// Adds the path to a read error.
pub(super) fn reading<T>(set: &str, path: &Path, result: std::io::Result<T>) -> Result<T, FetchError> {
    result.map_err(|source| FetchError::Read { set: set.to_owned(), path: path.to_owned(), source })
}
