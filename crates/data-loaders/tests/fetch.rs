//! From a test server, a mirror or an archive to a dataset that opens; and the error messages if that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/server.rs"]
mod server;

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;

use data_loaders::{
    DatasetEntry, FetchEvent, FetchRequest, Fetched, Mirror, Step, dataset, fetch, planned_files,
    remove_downloads,
};
use disk::{Disk, cifar, entry, gzip, hex, opens, source};
use server::{Page, Server};
use sha2::{Digest, Sha256};

#[test]
fn a_data_set_is_downloaded_once_unpacked_and_opened() {
    let body = cifar();
    let server = Server::new([("cifar.tar.gz", Page { body: body.clone(), ..Page::default() })]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    let mut steps = Vec::new();
    let fetched = disk.fetch_watched(&entry, &mut |event| {
        let FetchEvent::Progress { step, done, total, .. } = event else { panic!("{event:?}") };
        assert!(*done <= total.unwrap(), "{event:?}");
        steps.push(*step);
        ControlFlow::Continue(())
    });
    assert_eq!(fetched.unwrap(), Fetched::New(disk.sets.join("cifar100")));
    steps.dedup();
    assert_eq!(steps, [Step::Load, Step::Check, Step::Unpack]);
    opens(&disk, &entry);
    assert_eq!(disk.fetch(&entry).unwrap(), Fetched::AlreadyThere(disk.sets.join("cifar100")));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_wrong_checksum_is_reported_and_the_file_is_set_aside() {
    let body = cifar();
    let server = Server::new([("cifar.tar.gz", Page { body: body.clone(), ..Page::default() })]);
    let disk = Disk::new();
    let mut sha = entry(&server.url, &body);
    sha.sources[0].sha256 = Some("0".repeat(64));
    let message = disk.rejection(&sha);
    let found = hex(Sha256::digest(&body));
    assert!(message.contains(&format!("its sha256 is {found}, not {}", "0".repeat(64))), "{message}");
    assert!(message.contains("cifar.tar.gz") && message.contains("set aside"), "{message}");
    assert!(disk.files_of_downloads().iter().any(|name| name.ends_with(".rejected")));

    let mut md5 = entry(&server.url, &body);
    (md5.sources[0].sha256, md5.sources[0].md5) = (None, Some("0".repeat(32)));
    assert!(disk.rejection(&md5).contains("its md5 is"));
    md5.sources[0].md5 = Some(hex(md5::Md5::digest(&body)));
    disk.fetch(&md5).unwrap();
    opens(&disk, &md5);
}

#[test]
fn a_size_mismatch_is_reported_before_anything_is_downloaded() {
    let body = cifar();
    let server = Server::new([("cifar.tar.gz", Page { body: body.clone(), ..Page::default() })]);
    let (disk, mut entry) = (Disk::new(), entry(&server.url, &body));
    entry.sources[0].size = Some(19_021_600_724);
    let message = disk.rejection(&entry);
    assert!(
        message.contains(&format!("{} bytes, but the registry lists 19021600724", body.len())),
        "{message}"
    );
    assert!(disk.files_of_downloads().is_empty());
}

#[test]
fn a_missing_file_a_web_page_and_a_dead_server_are_reported_differently() {
    let body = cifar();
    let server = Server::new([(
        "page",
        Page { body: b"<html>".to_vec(), kind: Some("text/html"), ..Page::default() },
    )]);
    let disk = Disk::new();
    let message = disk.rejection(&entry(&server.url, &body));
    assert!(message.contains("cifar.tar.gz: the server responded with 404 Not Found"), "{message}");
    assert_eq!(server.requests().len(), 1, "a 404 is not retried");
    let mut page = entry(&server.url, &body);
    page.sources[0].url = format!("{}/page", server.url);
    assert!(disk.rejection(&page).contains("the server sent a web page"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(disk.rejection(&entry(&format!("http://{port}"), &body)).contains("refused"));
}

#[test]
fn requests_to_a_busy_server_are_retried() {
    let body = cifar();
    let statuses = vec!["503 Service Unavailable", "429 Too Many Requests"];
    let server = Server::new([("cifar.tar.gz", Page { body: body.clone(), statuses, ..Page::default() })]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
}

#[test]
fn a_mirror_a_folder_or_an_archive_can_replace_the_official_url() {
    let body = cifar();
    let server = Server::new([("m/cifar.tar.gz", Page { body: body.clone(), ..Page::default() })]);
    let entry = entry("http://192.0.2.1/never", &body);
    let local = tempfile::tempdir().unwrap();
    fs::write(local.path().join("cifar.tar.gz"), &body).unwrap();
    for word in [
        format!("{}/m/", server.url),
        local.path().display().to_string(),
        local.path().join("cifar.tar.gz").display().to_string(),
    ] {
        let disk = Disk::new();
        disk.fetch_from(&entry, &Mirror::parse(&word).unwrap()).unwrap();
        opens(&disk, &entry);
    }
    assert!(local.path().join("cifar.tar.gz").is_file(), "a local file is left where it is");
    fs::write(local.path().join("cifar.tar.gz"), &body[..body.len() - 1]).unwrap();
    let mirror = Mirror::parse(&local.path().display().to_string()).unwrap();
    let message = Disk::new().fetch_from(&entry, &mirror).unwrap_err().to_string();
    assert!(message.contains("cifar.tar.gz") && message.contains("bytes, but the registry"), "{message}");
    fs::remove_file(local.path().join("cifar.tar.gz")).unwrap();
    let message = Disk::new().fetch_from(&entry, &mirror).unwrap_err().to_string();
    assert!(message.contains("cannot read") && message.contains("cifar.tar.gz"), "{message}");
    fs::write(local.path().join("other.zip"), "").unwrap();
    let other = Mirror::parse(&local.path().join("other.zip").display().to_string()).unwrap();
    let message = Disk::new().fetch_from(&entry, &other).unwrap_err().to_string();
    assert!(message.contains("other.zip is not one of its files (cifar.tar.gz)"), "{message}");
    assert!(Mirror::parse("/nowhere").unwrap_err().to_string().contains("`/nowhere`"));
}

#[test]
fn a_manual_download_is_explained_and_its_archive_is_accepted() {
    let entry = dataset("nabirds").unwrap();
    let disk = Disk::new();
    let message = disk.fetch(entry).unwrap_err().to_string();
    assert!(
        message.contains("nabirds: it must be downloaded manually: nabirds.tar.gz from the Cornell Lab"),
        "{message}"
    );
    let local = tempfile::tempdir().unwrap();
    let path = local.path().join("nabirds.zip");
    let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    archive.start_file("nabirds/images.txt", options).unwrap();
    archive.write_all(b"1 a.jpg\n").unwrap();
    archive.finish().unwrap();
    disk.fetch_from(entry, &Mirror::File(path)).unwrap();
    assert!(disk.sets.join("nabirds/nabirds/images.txt").is_file());
}

#[test]
fn terms_must_be_accepted_before_any_request() {
    let body = cifar();
    let server = Server::new([("cifar.tar.gz", Page { body: body.clone(), ..Page::default() })]);
    let disk = Disk::new();
    let entry = DatasetEntry { terms: Some("no commerce".into()), ..entry(&server.url, &body) };
    let request = FetchRequest { terms_accepted: false, ..disk.request(&entry) };
    let message = fetch(&request, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(message.contains("no commerce") && message.contains("--accept-licence"), "{message}");
    assert!(server.requests().is_empty());
}

#[test]
fn several_files_share_a_folder_that_is_unchanged_if_an_entry_exists() {
    let body = cifar();
    let note = b"a second file".to_vec();
    let server = Server::new([
        ("cifar.tar.gz", Page { body: body.clone(), ..Page::default() }),
        ("notes.txt.gz", Page { body: gzip(&note), ..Page::default() }),
    ]);
    let (disk, mut entry) = (Disk::new(), entry(&server.url, &body));
    entry.sources.push(source(&format!("{}/notes.txt.gz", server.url), &gzip(&note)));
    let folder = disk.sets.join("cifar100");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    let message = disk.fetch(&entry).unwrap_err().to_string();
    assert!(message.contains("notes.txt already exists"), "{message}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing was moved");
    fs::rename(folder.join("notes.txt"), folder.join("my notes.txt")).unwrap();
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    assert_eq!(fs::read(folder.join("notes.txt")).unwrap(), note);
    assert_eq!(fs::read(folder.join("my notes.txt")).unwrap(), b"mine");
}

#[test]
fn downloads_are_removed_except_those_needed_by_another_data_set() {
    let body = cifar();
    let server = Server::new([("cifar.tar.gz", Page { body: body.clone(), ..Page::default() })]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    disk.fetch(&entry).unwrap();
    assert_eq!(disk.files_of_downloads().len(), 1);
    let request = disk.request(&entry);
    let files = planned_files(&request).unwrap();
    remove_downloads(&request, &files, |_| true);
    assert_eq!(disk.files_of_downloads().len(), 1);
    remove_downloads(&request, &files, |_| false);
    assert!(disk.files_of_downloads().is_empty());
}
