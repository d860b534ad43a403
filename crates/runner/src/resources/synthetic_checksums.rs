//! The checksums of synthetic sets, stored between commands: to compute one, the set has to be generated, which would
//! take most of the time of `san plan` and `san status`.
//!
//! Checksums from another build of the program are ignored, because the generators may have changed. Those of the
//! profiles `embedded` are in `datasets/synthetic_checksums.json`, which a test recomputes. A run trusts no stored checksum and
//! rewrites its file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use data_loaders::ImageSet;
use serde::{Deserialize, Serialize};

use crate::io::files::write_json;

/// Checksums by name, counts and image size of a set; a copy of what a results folder stores.
const KNOWN: &str = include_str!("../../../../datasets/synthetic_checksums.json");

/// Name of the file in the results folder.
const FILE: &str = ".synthetic_checksums.json";

/// The known checksums, and where they are stored.
#[derive(Debug)]
pub(crate) struct SyntheticChecksums {
    path: PathBuf,
    stored: Stored,
    /// Those of the profiles `embedded`.
    known: BTreeMap<String, String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// Size and modification time of the program's file.
    program: String,
    /// By name, counts and image size of a set.
    checksums: BTreeMap<String, String>,
}

impl SyntheticChecksums {
    /// The checksums stored in a results folder, if there are any from this build.
    pub(crate) fn open(results: &Path) -> Self {
        Self::of_program(results, program().unwrap_or_default())
    }

    /// No checksums, only the path to store them at: a run generates its sets anyway, and the stored file may be
    /// damaged.
    pub(crate) fn empty(results: &Path) -> Self {
        let stored = Stored { program: program().unwrap_or_default(), checksums: BTreeMap::new() };
        Self { path: results.join(FILE), stored, known: BTreeMap::new() }
    }

    fn of_program(results: &Path, program: String) -> Self {
        let path = results.join(FILE);
        let read = |path| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
        let stored: Option<Stored> = read(&path).filter(|stored: &Stored| stored.program == program);
        let stored = stored.unwrap_or(Stored { program, checksums: BTreeMap::new() });
        Self { path, stored, known: serde_json::from_str(KNOWN).unwrap_or_default() }
    }

    /// The checksum of a synthetic set, which is generated if its checksum is unknown.
    pub(crate) fn of(&mut self, set: &ImageSet, image_size: u32) -> String {
        let key = format!("{} {:?} {image_size}", set.name(), set.counts());
        let is_valid = |known: &&String| blake3::Hash::from_hex(known).is_ok();
        if let Some(known) = self.known.get(&key).or(self.stored.checksums.get(&key)).filter(is_valid) {
            return known.clone();
        }
        let checksum = set.checksum().to_owned();
        if !self.stored.program.is_empty() && self.path.parent().is_some_and(Path::is_dir) {
            self.stored.checksums.insert(key, checksum.clone());
            // If the folder cannot be written, only time is lost.
            let _ = write_json(&self.path, &self.stored);
        }
        checksum
    }
}

/// What distinguishes this build from others.
fn program() -> Option<String> {
    let file = std::env::current_exe().ok()?.metadata().ok()?;
    let time = file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{} bytes of {} ns", file.len(), time.as_nanos()))
}

#[cfg(test)]
mod tests {
    use data_loaders::{SplitCounts, dataset};

    use super::*;

    #[test]
    fn stored_checksums_are_used_only_by_the_same_program() {
        let folder = tempfile::tempdir().unwrap();
        let counts = SplitCounts { train: 4, val: 1, test: 2 };
        let set = ImageSet::draw(dataset("svhn").unwrap(), counts, 8).unwrap();
        let open = |program: &str| SyntheticChecksums::of_program(folder.path(), program.into());
        assert_eq!(open("one").of(&set, 8), set.checksum());
        // A false checksum shows whether the file was used.
        let path = folder.path().join(FILE);
        let wrong = blake3::hash(b"a wrong").to_hex().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(set.checksum(), &wrong)).unwrap();
        assert_eq!(open("one").of(&set, 8), wrong);
        assert_eq!(SyntheticChecksums::empty(folder.path()).of(&set, 8), set.checksum());
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&wrong));
        std::fs::write(&path, text.replace(set.checksum(), &wrong)).unwrap();
        assert_eq!(open("two").of(&set, 8), set.checksum());
        std::fs::write(&path, text.replace(set.checksum(), "half")).unwrap();
        assert_eq!(open("one").of(&set, 8), set.checksum());
    }

    /// If it fails, the generators have changed: then replace `datasets/synthetic_checksums.json` by the `checksums` of
    /// `results/.synthetic_checksums.json`, which `san run vtab`, `fgvc` and `gic` write.
    #[test]
    fn known_checksums_of_the_embedded_profiles_are_correct() {
        let known: BTreeMap<String, String> = serde_json::from_str(KNOWN).unwrap();
        assert!(known.len() >= 25);
        for (key, checksum) in known {
            let (name, sizes) = key.split_once(' ').unwrap();
            let numbers = sizes.split(|letter: char| !letter.is_ascii_digit());
            let numbers: Vec<usize> = numbers.filter_map(|number| number.parse().ok()).collect();
            let [train, val, test, image_size] = numbers[..] else { panic!("{key}") };
            let entry = dataset(name.trim_start_matches("mini/")).unwrap();
            let set = ImageSet::draw(entry, SplitCounts { train, val, test }, image_size as u32).unwrap();
            assert_eq!(set.checksum(), checksum, "{key}");
        }
    }

    #[test]
    fn a_missing_folder_is_not_created() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("results");
        let counts = SplitCounts { train: 1, val: 1, test: 1 };
        let set = ImageSet::draw(dataset("svhn").unwrap(), counts, 8).unwrap();
        assert_eq!(SyntheticChecksums::open(&missing).of(&set, 8), set.checksum());
        assert!(!missing.exists());
    }
}
