//! Shared by the download tests: a small dataset as packed by its authors, folders to fetch into, and short timeouts.
#![allow(dead_code, reason = "each test uses some of it")]

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use data_loaders::{
    DatasetEntry, Download, FetchError, FetchRequest, Fetched, HUB, ImageSet, Mirror, Patience, Split, Watch,
    dataset, fetch, verify,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::common::fixtures;

pub(crate) const QUICK: Patience =
    Patience { attempts: 3, pause: Duration::from_millis(5), timeout: Duration::from_secs(5) };

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// CIFAR-100's binary version, packed as by its authors, from the fixture.
pub(crate) fn cifar() -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    archive.append_dir_all("cifar-100-binary", fixtures("originals/cifar_binary/cifar-100-binary")).unwrap();
    archive.into_inner().unwrap().finish().unwrap()
}

pub(crate) fn source(url: &str, bytes: &[u8]) -> Download {
    let sha256 = Some(hex(Sha256::digest(bytes)));
    Download { url: url.to_owned(), size: Some(bytes.len() as u64), sha256, ..Download::default() }
}

/// The full CIFAR-100, available from `url` under the name `cifar.tar.gz`.
pub(crate) fn entry(url: &str, bytes: &[u8]) -> DatasetEntry {
    let sources = vec![source(&format!("{url}/cifar.tar.gz"), bytes)];
    DatasetEntry { sources, ..dataset("gic_cifar100").unwrap().clone() }
}

/// A dataset consisting of the file `notes.bin` from `url`, with no published checksum and an optional size.
pub(crate) fn unchecked(url: &str, size: Option<u64>) -> DatasetEntry {
    let sources = vec![Download { url: format!("{url}/notes.bin"), size, ..Download::default() }];
    DatasetEntry { sources, ..dataset("gic_cifar100").unwrap().clone() }
}

/// Dataset and download folders.
pub(crate) struct Disk {
    pub(crate) sets: PathBuf,
    pub(crate) downloads: PathBuf,
    _folder: TempDir,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (sets, downloads) = (folder.path().join("sets"), folder.path().join("downloads"));
        Self { sets, downloads, _folder: folder }
    }

    pub(crate) fn request<'a>(&'a self, entry: &'a DatasetEntry) -> FetchRequest<'a> {
        FetchRequest {
            distribution: entry.distribution(),
            root: &self.sets,
            downloads: &self.downloads,
            mirror: None,
            terms_accepted: true,
            patience: QUICK,
            limits: None,
            inspect: None,
            credential: None,
            hub: HUB,
        }
    }

    pub(crate) fn fetch(&self, entry: &DatasetEntry) -> Result<Fetched, FetchError> {
        self.fetch_watched(entry, &mut |_| ControlFlow::Continue(()))
    }

    pub(crate) fn fetch_watched(
        &self,
        entry: &DatasetEntry,
        watch: &mut Watch,
    ) -> Result<Fetched, FetchError> {
        fetch(&self.request(entry), watch)
    }

    pub(crate) fn fetch_from(&self, entry: &DatasetEntry, mirror: &Mirror) -> Result<Fetched, FetchError> {
        let request = FetchRequest { mirror: Some(mirror), ..self.request(entry) };
        fetch(&request, &mut |_| ControlFlow::Continue(()))
    }

    /// The message of a fetch that must fail and leave nothing in the dataset's place.
    #[track_caller]
    pub(crate) fn rejection(&self, entry: &DatasetEntry) -> String {
        self.rejection_of(&self.request(entry))
    }

    /// As [`Disk::rejection`], with a custom request.
    #[track_caller]
    pub(crate) fn rejection_of(&self, request: &FetchRequest) -> String {
        let message = fetch(request, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
        let place = self.sets.join(request.distribution.folder);
        assert!(!place.exists(), "nothing takes the set's place: {message}");
        message
    }

    pub(crate) fn files_of_downloads(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.downloads).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Bytes of downloads, complete, partial or set aside, without their notes.
    pub(crate) fn bytes_of_downloads(&self) -> u64 {
        let names = self.files_of_downloads();
        let files = names.iter().filter(|name| !name.ends_with(".origin"));
        files.map(|name| self.downloads.join(name).metadata().unwrap().len()).sum()
    }

    /// The published file of [`unchecked`].
    pub(crate) fn notes(&self) -> Vec<u8> {
        fs::read(self.sets.join("cifar100/notes.bin")).unwrap()
    }
}

/// Checks that the dataset of [`entry`] is complete and intact.
#[track_caller]
pub(crate) fn opens(disk: &Disk, entry: &DatasetEntry) {
    let set = ImageSet::open(entry, &disk.sets).unwrap();
    assert_eq!((set.len(Split::TrainVal), set.len(Split::Test)), (6, 4));
    assert!(verify(entry, &disk.sets).unwrap().is_sound());
    let scratch = disk.sets.join(format!(".fetching-{}", entry.folder()));
    assert!(!scratch.exists(), "the scratch folder is gone");
}
