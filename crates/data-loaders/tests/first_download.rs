//! Files without a published checksum: the first download's checksum is kept, and damaged files are downloaded again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/server.rs"]
mod server;

use std::fs;
use std::ops::ControlFlow;

use data_loaders::{
    DatasetEntry, Download, Fault, FetchRequest, Fetched, fetch, planned_files, remove_downloads,
};
use disk::{Disk, hex, unchecked};
use server::{Page, Server};
use sha2::{Digest, Sha256};

fn serving(body: &[u8]) -> Server {
    Server::new([("notes.bin", Page { body: body.to_vec(), ..Page::default() })])
}

/// The set with a published checksum.
fn checked(url: &str, sha256: Option<String>) -> DatasetEntry {
    let mut entry = unchecked(url, None);
    entry.sources[0].sha256 = sha256;
    entry
}

/// Removes what a fetch left, as `san fetch` does, and the dataset.
fn forget(disk: &Disk, entry: &DatasetEntry) {
    let request = disk.request(entry);
    remove_downloads(&request, &planned_files(&request).unwrap(), |_| false);
    fs::remove_dir_all(disk.sets.join("cifar100")).unwrap();
}

#[test]
fn a_later_download_that_differs_from_the_first_is_rejected_with_both_checksums() {
    let server = serving(b"first");
    let (disk, entry) = (Disk::new(), unchecked(&server.url, None));
    disk.fetch(&entry).unwrap();
    forget(&disk, &entry);
    // The same again.
    disk.fetch(&entry).unwrap();
    forget(&disk, &entry);
    server.change("notes.bin", |page| page.body = b"other".to_vec());
    for _ in 0..2 {
        let message = disk.rejection(&entry);
        for word in [&hex(Sha256::digest(b"first")), &hex(Sha256::digest(b"other")), "new version"] {
            assert!(message.contains(word), "no `{word}` in: {message}");
        }
    }
    // As the message suggests.
    let note = disk.files_of_downloads().into_iter().find(|name| name.ends_with(".origin")).unwrap();
    fs::remove_file(disk.downloads.join(note)).unwrap();
    disk.fetch(&entry).unwrap();
    assert_eq!(disk.notes(), b"other");
}

#[test]
fn the_first_checksum_survives_a_later_interrupted_download() {
    let server = serving(b"first");
    let (disk, entry) = (Disk::new(), unchecked(&server.url, None));
    disk.fetch(&entry).unwrap();
    forget(&disk, &entry);
    server.change("notes.bin", |page| {
        (page.body, page.etag, page.ranges) = (b"other".to_vec(), Some("\"two\""), true);
        page.cuts = vec![2];
    });
    assert!(disk.rejection(&entry).contains("first download"));
}

#[test]
fn a_download_damaged_on_disk_is_not_unpacked_by_the_next_fetch() {
    let server = serving(b"first");
    let published = Some(hex(Sha256::digest(b"first")));
    for entry in [unchecked(&server.url, None), checked(&server.url, published)] {
        let disk = Disk::new();
        disk.fetch(&entry).unwrap();
        fs::remove_dir_all(disk.sets.join("cifar100")).unwrap();
        let file = disk.files_of_downloads().into_iter().find(|name| name.ends_with("notes.bin")).unwrap();
        fs::write(disk.downloads.join(file), b"fIrst").unwrap();
        let message = disk.rejection(&entry);
        assert!(message.contains("notes.bin.rejected") && message.contains("set aside"), "{message}");
        assert!(!disk.sets.join("cifar100").exists());
        disk.fetch(&entry).unwrap();
        assert_eq!(disk.notes(), b"first");
    }
}

#[test]
fn a_damaged_note_is_rejected_with_its_name() {
    let server = serving(b"first");
    let (disk, entry) = (Disk::new(), unchecked(&server.url, None));
    disk.fetch(&entry).unwrap();
    let note = disk.files_of_downloads().into_iter().find(|name| name.ends_with(".origin")).unwrap();
    forget(&disk, &entry);
    fs::write(disk.downloads.join(&note), "{").unwrap();
    let message = disk.rejection(&entry);
    assert!(message.contains(&note) && message.contains("remove it"), "{message}");
}

/// Rejects files that do not start with `good`.
fn inspect(folder: &std::path::Path) -> Result<(), Fault> {
    match fs::read(folder.join("notes.bin")).unwrap().starts_with(b"good") {
        true => Ok(()),
        false => Err(Fault { file: "notes.bin".into(), reason: "it is not good".into() }),
    }
}

#[test]
fn a_file_that_fails_inspection_is_not_published_and_is_downloaded_again() {
    let server = serving(b"bad");
    let (disk, entry) = (Disk::new(), unchecked(&server.url, None));
    let request = FetchRequest { inspect: Some(inspect), ..disk.request(&entry) };
    let message = disk.rejection_of(&request);
    assert!(message.contains("notes.bin.rejected: it is not good; the file was set aside"), "{message}");
    server.change("notes.bin", |page| page.body = b"good".to_vec());
    let fetched = fetch(&request, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(fetched, Fetched::New(disk.sets.join("cifar100")));
}

#[test]
fn an_archive_that_cannot_be_unpacked_is_downloaded_again() {
    let server = Server::new([("set.tar", Page { body: vec![0; 1024], ..Page::default() })]);
    let url = format!("{}/set.tar", server.url);
    let sources = vec![Download { url, ..Download::default() }];
    let (disk, entry) = (Disk::new(), DatasetEntry { sources, ..unchecked(&server.url, None) });
    let message = disk.rejection(&entry);
    assert!(
        message.contains("set.tar.rejected: the archive has no entries; the file was set aside"),
        "{message}"
    );
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    archive.append_data(&mut header, "notes.bin", &b"good"[..]).unwrap();
    server.change("set.tar", |page| page.body = archive.into_inner().unwrap());
    disk.fetch(&entry).unwrap();
    assert_eq!(disk.notes(), b"good");
}
