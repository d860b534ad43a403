//! Hashes of file contents, cached between commands.
//!
//! A checksum of data has to cover every byte that a model sees, and the images of a large mixture take minutes to
//! read. So a hash is cached under the identity of the file (device, inode, size, modification and change times) and
//! recomputed when any of these differs. The inode's change time is included because it cannot be set from outside, so
//! a copy that preserves the modification time is detected too.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

/// A file that changed this recently may change again within the same tick of the file system's clock, so its hash is
/// not cached.
const SETTLED: Duration = Duration::from_secs(2);

/// Identifies a file and its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The known hashes, and the cache file.
#[derive(Debug, Default)]
pub struct FileHashes {
    path: Option<PathBuf>,
    known: Mutex<HashMap<Identity, blake3::Hash>>,
}

impl FileHashes {
    /// Reads what earlier commands cached in the file at `path`, and appends new hashes there.
    ///
    /// A missing or damaged cache file only costs time: lines whose own checksum does not match are ignored.
    pub fn cached_in(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let known = text.lines().filter_map(parse_line).collect();
        Self { path: Some(path), known: Mutex::new(known) }
    }

    /// The blake3 hash of each file, in order; unknown ones are computed in parallel.
    ///
    /// # Errors
    /// The first file that cannot be read, with the reason.
    pub fn of(&self, paths: &[&Path]) -> Result<Vec<blake3::Hash>, (PathBuf, io::Error)> {
        let hash = |path: &&Path| self.of_one(path).map_err(|error| (path.to_path_buf(), error));
        let results: Vec<_> = paths.par_iter().map(hash).collect();
        let found = results.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut lines = String::new();
        for (_, added) in &found {
            if let Some((identity, hash)) = added {
                self.known().insert(*identity, *hash);
                lines += &format_line(identity, hash);
            }
        }
        self.append(&lines);
        Ok(found.into_iter().map(|(hash, _)| hash).collect())
    }

    /// The hash of a file, and the entry to cache, if any.
    fn of_one(&self, path: &Path) -> io::Result<(blake3::Hash, Option<(Identity, blake3::Hash)>)> {
        let identity = Identity::of(&fs::metadata(path)?);
        if let Some(hash) = self.known().get(&identity) {
            return Ok((*hash, None));
        }
        let mut hasher = blake3::Hasher::new();
        let mut file = File::open(path)?;
        io::copy(&mut file, &mut hasher)?;
        let hash = hasher.finalize();
        // Cached only if the file did not change while it was read.
        let after = file.metadata()?;
        let settled = Identity::of(&after) == identity && is_settled(&after);
        Ok((hash, settled.then_some((identity, hash))))
    }

    /// An entry is complete when it is inserted, so a panic elsewhere leaves the map valid.
    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Identity, blake3::Hash>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends in one call, because several workers may write; an unwritable folder only costs time.
    fn append(&self, lines: &str) {
        let Some(path) = self.path.as_deref().filter(|_| !lines.is_empty()) else { return };
        let write = || OpenOptions::new().append(true).create(true).open(path)?.write_all(lines.as_bytes());
        let _: io::Result<()> = write();
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Whether the last change of a file is old enough to be visible in its timestamps.
fn is_settled(metadata: &Metadata) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let last = metadata.mtime().max(metadata.ctime());
    u64::try_from(last).is_ok_and(|last| Duration::from_secs(last) + SETTLED < now)
}

/// A line of the cache file: the identity, the hash, and a checksum of both.
fn format_line(identity: &Identity, hash: &blake3::Hash) -> String {
    let Identity { device, inode, size, modified, changed } = identity;
    let body = format!(
        "{device} {inode} {size} {} {} {} {} {}",
        modified.0,
        modified.1,
        changed.0,
        changed.1,
        hash.to_hex()
    );
    format!("{body} {}\n", check_of(&body))
}

fn parse_line(line: &str) -> Option<(Identity, blake3::Hash)> {
    let (body, check) = line.rsplit_once(' ')?;
    if check_of(body) != check {
        return None;
    }
    let fields: Vec<&str> = body.split(' ').collect();
    let &[device, inode, size, modified, modified_nanos, changed, changed_nanos, hash] = fields.as_slice()
    else {
        return None;
    };
    let identity = Identity {
        device: device.parse().ok()?,
        inode: inode.parse().ok()?,
        size: size.parse().ok()?,
        modified: (modified.parse().ok()?, modified_nanos.parse().ok()?),
        changed: (changed.parse().ok()?, changed_nanos.parse().ok()?),
    };
    Some((identity, blake3::Hash::from_hex(hash).ok()?))
}

fn check_of(body: &str) -> String {
    blake3::hash(body.as_bytes()).to_hex()[..8].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with timestamps in the past, like those of a dataset.
    fn settled(folder: &Path, name: &str, contents: &[u8]) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    #[test]
    fn a_cached_hash_is_used_while_the_file_is_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = settled(folder.path(), "a.png", b"one");
        let cache = folder.path().join("hashes");
        let identity = Identity::of(&fs::metadata(&path).unwrap());
        // A wrong hash shows whether the cache is used.
        let wrong = blake3::hash(b"wrong");
        fs::write(&cache, format_line(&identity, &wrong)).unwrap();
        let hash = |of: &Path| FileHashes::cached_in(cache.clone()).of(&[of]).unwrap()[0];
        assert_eq!(hash(&path), wrong);
        fs::write(&path, b"two").unwrap();
        assert_eq!(hash(&path), blake3::hash(b"two"), "same length, different timestamps");
        let damaged = format_line(&identity, &wrong).replace(&wrong.to_hex()[..4], "0000");
        fs::write(&cache, damaged).unwrap();
        assert_eq!(hash(&path), blake3::hash(b"two"));
    }

    #[test]
    fn the_hash_of_a_just_modified_file_is_not_cached() {
        let folder = tempfile::tempdir().unwrap();
        let path = settled(folder.path(), "a.png", b"one");
        let cache = folder.path().join("hashes");
        assert_eq!(FileHashes::cached_in(cache.clone()).of(&[&path]).unwrap(), [blake3::hash(b"one")]);
        assert!(!cache.exists());
        // After the limit it is cached, by this process and by the next one.
        std::thread::sleep(SETTLED + Duration::from_millis(1100));
        FileHashes::cached_in(cache.clone()).of(&[&path]).unwrap();
        let line = fs::read_to_string(&cache).unwrap();
        assert_eq!(parse_line(line.trim_end()).unwrap().1, blake3::hash(b"one"));
    }

    #[test]
    fn a_missing_file_is_reported_with_its_path() {
        let (path, error) = FileHashes::default().of(&[Path::new("missing.png")]).unwrap_err();
        assert_eq!((path, error.kind()), ("missing.png".into(), io::ErrorKind::NotFound));
    }
}
