//! Checks a file against its published size and SHA-256, or its MD5 if only that is published.

use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::fetch::error::reading;
use crate::fetch::{FetchError, FetchEvent, Step, Watch};
use crate::registry::Download;

/// Bytes per read.
const CHUNK: usize = 1 << 18;

/// Compares a file with its registry entry; an empty file is always an error.
pub(super) fn check(set: &str, path: &Path, source: &Download, watch: &mut Watch) -> Result<(), FetchError> {
    let mismatch = |reason| Err(FetchError::Mismatch { set: set.to_owned(), path: path.to_owned(), reason });
    let found = reading(set, path, path.metadata())?.len();
    if let Some(expected) = source.size.filter(|expected| *expected != found) {
        return mismatch(format!("it has {found} bytes, but the registry lists {expected}"));
    }
    if found == 0 {
        return mismatch("it is empty".to_owned());
    }
    let (algorithm, expected, found) = match (&source.sha256, &source.md5) {
        (Some(expected), _) => ("sha256", expected, sha256(set, path, watch)?),
        (None, Some(expected)) => ("md5", expected, digest::<Md5>(set, path, watch)?),
        (None, None) => return Ok(()),
    };
    if *expected == found { Ok(()) } else { mismatch(format!("its {algorithm} is {found}, not {expected}")) }
}

/// SHA-256 of a file, in hexadecimal.
pub(super) fn sha256(set: &str, path: &Path, watch: &mut Watch) -> Result<String, FetchError> {
    digest::<Sha256>(set, path, watch)
}

/// Checksum of a file, in hexadecimal.
fn digest<D: Digest>(set: &str, path: &Path, watch: &mut Watch) -> Result<String, FetchError> {
    let mut file = reading(set, path, File::open(path))?;
    let size = reading(set, path, file.metadata())?.len();
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let (mut hasher, mut chunk, mut done) = (D::new(), vec![0; CHUNK], 0);
    loop {
        let count = reading(set, path, file.read(&mut chunk))?;
        if count == 0 {
            break;
        }
        hasher.update(&chunk[..count]);
        done += count as u64;
        let event = FetchEvent::Progress { step: Step::Check, file: &name, done, total: Some(size) };
        if watch(&event) == ControlFlow::Break(()) {
            return Err(FetchError::Stopped { set: set.to_owned() });
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
