//! Disk space: how much a fetch needs, and how much there is.

use std::collections::BTreeMap;
use std::path::Path;

use data_loaders::{FetchError, PlannedFile};
use indicatif::HumanBytes;

/// What a fetch needs at least: sizes that are not published are not counted, and archives are counted as if their
/// contents were not compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    /// Bytes to download, at the time when most of them are on disk.
    download: u64,
    /// Bytes of unpacked archives.
    unpack: u64,
}

impl Space {
    /// For the files of each set; the archives of a set are removed before those of the next one come, unless they are
    /// kept.
    pub(super) fn needed<'a>(sets: impl Iterator<Item = &'a [PlannedFile]>, keep: bool) -> Self {
        let (mut lasting, mut unpack, mut archives) = (BTreeMap::new(), 0, Vec::new());
        for files in sets {
            let mut of_set = 0;
            for file in files {
                let size = file.size.unwrap_or(0);
                let left = size.saturating_sub(file.bytes_on_disk);
                match file.is_archive() {
                    true => {
                        unpack += size;
                        of_set += left;
                        if keep {
                            lasting.insert(file.from.as_str(), left);
                        }
                    }
                    false => _ = lasting.insert(file.from.as_str(), left),
                }
            }
            archives.push(of_set);
        }
        let most = if keep { 0 } else { archives.into_iter().max().unwrap_or(0) };
        Self { download: lasting.values().sum::<u64>() + most, unpack }
    }

    fn total(self) -> u64 {
        self.download.saturating_add(self.unpack)
    }

    /// In words, with the space that there is.
    pub(super) fn compared_with(self, folder: &Path) -> String {
        let free = free(folder).map_or_else(|| "unknown".to_owned(), |free| HumanBytes(free).to_string());
        format!(
            "disk space needed: at least {} (archives are removed once they are unpacked); free: {free}",
            HumanBytes(self.total())
        )
    }

    /// # Errors
    /// [`FetchError::Space`] if the file system of the folder has less.
    pub(super) fn check(self, name: &str, folder: &Path) -> Result<(), FetchError> {
        match free(folder).filter(|free| *free < self.total()) {
            None => Ok(()),
            Some(free) => Err(FetchError::Space {
                set: name.to_owned(),
                path: folder.to_owned(),
                free,
                needed: self.total(),
                download: self.download,
                unpack: self.unpack,
            }),
        }
    }
}

/// Free bytes of the file system that a folder is in, or will be; `None` if the system does not say.
fn free(folder: &Path) -> Option<u64> {
    let existing = folder.ancestors().find(|folder| folder.is_dir());
    // A relative path has no ancestor that is written out.
    let existing = existing.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let system = rustix::fs::statvfs(existing).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}
