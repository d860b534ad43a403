//! Downloads against a server in the test: whole, cut off, without ranges, redirected, wrong, refused; and from there to
//! a set that opens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/server.rs"]
mod server;

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::fixtures;
use data_loaders::DatasetEntry;
use data_loaders::Download;
use data_loaders::FetchError;
use data_loaders::FetchEvent;
use data_loaders::FetchRequest;
use data_loaders::Fetched;
use data_loaders::ImageSet;
use data_loaders::Mirror;
use data_loaders::Patience;
use data_loaders::Split;
use data_loaders::Step;
use data_loaders::dataset;
use data_loaders::fetch;
use data_loaders::planned_files;
use data_loaders::remove_downloads;
use data_loaders::vision::verify;
use flate2::Compression;
use flate2::write::GzEncoder;
use server::{Page, Server};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const QUICK: Patience =
    Patience { attempts: 3, pause: Duration::from_millis(5), timeout: Duration::from_secs(5) };

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// CIFAR-100's binary version as its authors pack it, from the fixture.
fn cifar() -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    archive.append_dir_all("cifar-100-binary", fixtures("originals/cifar_binary/cifar-100-binary")).unwrap();
    archive.into_inner().unwrap().finish().unwrap()
}

fn source(url: &str, bytes: &[u8]) -> Download {
    let sha256 = Some(hex(Sha256::digest(bytes)));
    Download { url: url.to_owned(), size: Some(bytes.len() as u64), sha256, md5: None }
}

/// The whole of CIFAR-100, to be had from `url` under the name `cifar.tar.gz`.
fn entry(url: &str, bytes: &[u8]) -> DatasetEntry {
    let sources = vec![source(&format!("{url}/cifar.tar.gz"), bytes)];
    DatasetEntry { sources, ..dataset("gic_cifar100").unwrap().clone() }
}

/// Folders of sets and of downloads.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn sets(&self) -> PathBuf {
        self.0.path().join("sets")
    }

    fn downloads(&self) -> PathBuf {
        self.0.path().join("downloads")
    }

    fn fetch_from(&self, entry: &DatasetEntry, mirror: Option<&Mirror>) -> Result<Fetched, FetchError> {
        self.fetch_watched(entry, mirror, &mut |_| ControlFlow::Continue(()))
    }

    fn fetch_watched(
        &self,
        entry: &DatasetEntry,
        mirror: Option<&Mirror>,
        watch: &mut data_loaders::Watch,
    ) -> Result<Fetched, FetchError> {
        let (root, downloads) = (self.sets(), self.downloads());
        let (root, downloads) = (root.as_path(), downloads.as_path());
        let request = FetchRequest {
            distribution: entry.distribution(),
            root,
            downloads,
            mirror,
            terms_accepted: true,
            patience: QUICK,
            limits: None,
        };
        fetch(&request, watch)
    }

    fn fetch(&self, entry: &DatasetEntry) -> Result<Fetched, FetchError> {
        self.fetch_from(entry, None)
    }

    fn refused(&self, entry: &DatasetEntry) -> String {
        let message = self.fetch(entry).unwrap_err().to_string();
        assert!(!self.sets().join(entry.folder()).exists(), "nothing takes the set's place: {message}");
        message
    }

    fn files_of_downloads(&self) -> Vec<String> {
        let entries = fs::read_dir(self.downloads()).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[track_caller]
fn opens(disk: &Disk, entry: &DatasetEntry) {
    let set = ImageSet::open(entry, &disk.sets()).unwrap();
    assert_eq!((set.len(Split::TrainVal), set.len(Split::Test)), (6, 4));
    assert!(verify(entry, &disk.sets()).unwrap().is_sound());
    let scratch = disk.sets().join(format!(".fetching-{}", entry.folder()));
    assert!(!scratch.exists(), "the scratch folder is gone");
}

#[test]
fn a_set_is_loaded_unpacked_opened_and_not_loaded_again() {
    let body = cifar();
    let server = Server::new([("cifar.tar.gz", Page { body: body.clone(), ..Page::default() })]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    let mut steps = Vec::new();
    let fetched = disk.fetch_watched(&entry, None, &mut |event| {
        let FetchEvent::Progress { step, done, total, .. } = event else { panic!("{event:?}") };
        assert!(*done <= total.unwrap(), "{event:?}");
        steps.push(*step);
        ControlFlow::Continue(())
    });
    assert_eq!(fetched.unwrap(), Fetched::New(disk.sets().join("cifar100")));
    steps.dedup();
    assert_eq!(steps, [Step::Load, Step::Check, Step::Unpack]);
    opens(&disk, &entry);
    assert_eq!(disk.fetch(&entry).unwrap(), Fetched::AlreadyThere(disk.sets().join("cifar100")));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_download_that_is_cut_off_goes_on_where_it_was_and_asks_for_the_same_file() {
    let body = cifar();
    let page = Page {
        body: body.clone(),
        etag: Some("\"one\""),
        ranges: true,
        cuts: vec![100, 7],
        ..Page::default()
    };
    let server = Server::new([("cifar.tar.gz", page)]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    let mut retries = 0;
    let watch = &mut |event: &FetchEvent| {
        retries += usize::from(matches!(event, FetchEvent::Retry { .. }));
        ControlFlow::Continue(())
    };
    disk.fetch_watched(&entry, None, watch).unwrap();
    opens(&disk, &entry);
    let asked = server.asked();
    let ranges: Vec<_> = asked.iter().map(|asked| asked.headers.get("range").map(String::as_str)).collect();
    assert_eq!(ranges, [None, Some("bytes=100-"), Some("bytes=107-")]);
    assert!(asked[1..].iter().all(|asked| asked.headers["if-range"] == "\"one\""));
    assert_eq!(retries, 2);
}

#[test]
fn half_a_download_is_no_set_and_a_later_call_goes_on_with_it() {
    let body = cifar();
    let half = body.len() / 2;
    let page = Page {
        body: body.clone(),
        etag: Some("\"one\""),
        ranges: true,
        cuts: vec![half, 0, 0, 0],
        ..Page::default()
    };
    let server = Server::new([("cifar.tar.gz", page)]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    let message = disk.refused(&entry);
    assert!(message.starts_with("gic_cifar100: http://127.0.0.1"), "{message}");
    assert!(
        message.contains("/cifar.tar.gz: cut off after") && message.contains(&half.to_string()),
        "{message}"
    );
    let request = FetchRequest {
        distribution: entry.distribution(),
        root: &disk.sets(),
        downloads: &disk.downloads(),
        mirror: None,
        terms_accepted: true,
        patience: QUICK,
        limits: None,
    };
    assert_eq!(planned_files(&request).unwrap()[0].held, half as u64);
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    assert_eq!(server.asked().last().unwrap().headers["range"], format!("bytes={half}-"));
}

#[test]
fn a_file_that_has_changed_on_the_server_is_loaded_from_its_beginning() {
    let (old, body) = (vec![7; 5000], cifar());
    let page =
        Page { body: old, etag: Some("\"old\""), ranges: true, cuts: vec![64, 0, 0], ..Page::default() };
    let server = Server::new([("cifar.tar.gz", page)]);
    let (disk, mut entry) = (Disk::new(), entry(&server.url, &body));
    entry.sources[0].size = None;
    disk.refused(&entry);
    server.change("cifar.tar.gz", |page| {
        *page = Page { body: body.clone(), etag: Some("\"new\""), ranges: true, ..Page::default() };
    });
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let body = cifar();
    let page = Page { body: body.clone(), etag: Some("\"one\""), cuts: vec![500], ..Page::default() };
    let server = Server::new([("cifar.tar.gz", page)]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    assert_eq!(server.asked()[1].headers["range"], "bytes=500-");
}

#[test]
fn without_validator_and_checksum_a_download_starts_anew() {
    let body = cifar();
    let page = Page { body: body.clone(), ranges: true, cuts: vec![500], ..Page::default() };
    let server = Server::new([("cifar.tar.gz", page)]);
    let (disk, mut entry) = (Disk::new(), entry(&server.url, &body));
    entry.sources[0].sha256 = None;
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    assert!(server.asked().iter().all(|asked| !asked.headers.contains_key("range")));
}

#[test]
fn a_part_that_was_whole_already_is_recognised() {
    let body = cifar();
    let page = Page { body: body.clone(), etag: Some("\"one\""), ranges: true, ..Page::default() };
    let server = Server::new([("cifar.tar.gz", page)]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    // Stopped when the last byte had come, before the file had its name.
    let mut loaded = 0;
    let stopped = disk.fetch_watched(&entry, None, &mut |event| match event {
        FetchEvent::Progress { step: Step::Check, .. } => ControlFlow::Break(()),
        FetchEvent::Progress { done, .. } => {
            loaded = *done;
            ControlFlow::Continue(())
        }
        FetchEvent::Retry { .. } => panic!("{event:?}"),
    });
    assert!(matches!(stopped, Err(FetchError::Stopped { .. })) && loaded == body.len() as u64);
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    assert_eq!(server.asked().len(), 2, "the second is answered by 416");
}

#[test]
fn a_wrong_checksum_is_named_and_the_file_set_aside() {
    let body = cifar();
    let server = Server::new([("cifar.tar.gz", Page { body: body.clone(), ..Page::default() })]);
    let disk = Disk::new();
    let mut sha = entry(&server.url, &body);
    sha.sources[0].sha256 = Some("0".repeat(64));
    let message = disk.refused(&sha);
    let found = hex(Sha256::digest(&body));
    assert!(message.contains(&format!("its sha256 is {found}, not {}", "0".repeat(64))), "{message}");
    assert!(message.contains("cifar.tar.gz") && message.contains("set aside"), "{message}");
    assert!(disk.files_of_downloads().iter().any(|name| name.ends_with(".rejected")));

    let mut md5 = entry(&server.url, &body);
    (md5.sources[0].sha256, md5.sources[0].md5) = (None, Some("0".repeat(32)));
    assert!(disk.refused(&md5).contains("its md5 is"));
    md5.sources[0].md5 = Some(hex(md5::Md5::digest(&body)));
    disk.fetch(&md5).unwrap();
    opens(&disk, &md5);
}

#[test]
fn another_size_is_told_before_anything_is_loaded() {
    let body = cifar();
    let server = Server::new([("cifar.tar.gz", Page { body: body.clone(), ..Page::default() })]);
    let (disk, mut entry) = (Disk::new(), entry(&server.url, &body));
    entry.sources[0].size = Some(19_021_600_724);
    let message = disk.refused(&entry);
    assert!(
        message.contains(&format!("{} bytes, not the 19021600724 of the registry", body.len())),
        "{message}"
    );
    assert!(disk.files_of_downloads().is_empty());
}

#[test]
fn a_missing_file_a_web_page_and_a_dead_server_are_told_apart() {
    let body = cifar();
    let server = Server::new([(
        "page",
        Page { body: b"<html>".to_vec(), kind: Some("text/html"), ..Page::default() },
    )]);
    let disk = Disk::new();
    let message = disk.refused(&entry(&server.url, &body));
    assert!(message.contains("cifar.tar.gz: the server answers 404 Not Found"), "{message}");
    assert_eq!(server.asked().len(), 1, "a 404 is not asked for again");
    let mut page = entry(&server.url, &body);
    page.sources[0].url = format!("{}/page", server.url);
    assert!(disk.refused(&page).contains("the server sends a web page"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(disk.refused(&entry(&format!("http://{port}"), &body)).contains("refused"));
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let body = cifar();
    let statuses = vec!["503 Service Unavailable", "429 Too Many Requests"];
    let server = Server::new([("cifar.tar.gz", Page { body: body.clone(), statuses, ..Page::default() })]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
}

#[test]
fn a_redirect_is_followed_with_the_range() {
    let body = cifar();
    let page =
        Page { body: body.clone(), etag: Some("\"one\""), ranges: true, cuts: vec![300], ..Page::default() };
    let there = Server::new([("elsewhere", page)]);
    let redirect = Some(format!("{}/elsewhere", there.url));
    let server = Server::new([("cifar.tar.gz", Page { redirect, ..Page::default() })]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    let asked = there.asked();
    assert!(asked.iter().all(|asked| asked.path == "/elsewhere"));
    assert_eq!(asked[1].headers["range"], "bytes=300-");
}

#[test]
fn a_stopped_download_is_gone_on_with() {
    let body = cifar();
    let page = Page { body: body.clone(), etag: Some("\"one\""), ranges: true, ..Page::default() };
    let server = Server::new([("cifar.tar.gz", page)]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    let stopped = disk.fetch_watched(&entry, None, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(FetchError::Stopped { .. })));
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    assert!(server.asked()[1].headers.contains_key("range"));
}

#[test]
fn a_mirror_a_folder_and_an_archive_stand_in_for_the_official_address() {
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
        disk.fetch_from(&entry, Some(&Mirror::parse(&word).unwrap())).unwrap();
        opens(&disk, &entry);
    }
    assert!(local.path().join("cifar.tar.gz").is_file(), "a local file is left where it is");
    fs::write(local.path().join("cifar.tar.gz"), &body[..body.len() - 1]).unwrap();
    let mirror = Mirror::parse(&local.path().display().to_string()).unwrap();
    let message = Disk::new().fetch_from(&entry, Some(&mirror)).unwrap_err().to_string();
    assert!(message.contains("cifar.tar.gz") && message.contains("bytes, not the"), "{message}");
    fs::remove_file(local.path().join("cifar.tar.gz")).unwrap();
    let message = Disk::new().fetch_from(&entry, Some(&mirror)).unwrap_err().to_string();
    assert!(message.contains("cannot read") && message.contains("cifar.tar.gz"), "{message}");
    fs::write(local.path().join("other.zip"), "").unwrap();
    let other = Mirror::parse(&local.path().join("other.zip").display().to_string()).unwrap();
    let message = Disk::new().fetch_from(&entry, Some(&other)).unwrap_err().to_string();
    assert!(message.contains("other.zip is none of its files, which are cifar.tar.gz"), "{message}");
    assert!(Mirror::parse("/nowhere").unwrap_err().to_string().contains("`/nowhere`"));
}

#[test]
fn a_set_that_has_to_be_had_by_hand_says_how_and_takes_the_archive() {
    let entry = dataset("nabirds").unwrap();
    let disk = Disk::new();
    let message = disk.fetch(entry).unwrap_err().to_string();
    assert!(
        message.contains("nabirds: it has to be had by hand: nabirds.tar.gz from the Cornell Lab"),
        "{message}"
    );
    let local = tempfile::tempdir().unwrap();
    let path = local.path().join("nabirds.zip");
    let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    archive.start_file("nabirds/images.txt", options).unwrap();
    archive.write_all(b"1 a.jpg\n").unwrap();
    archive.finish().unwrap();
    disk.fetch_from(entry, Some(&Mirror::File(path))).unwrap();
    assert!(disk.sets().join("nabirds/nabirds/images.txt").is_file());
}

#[test]
fn terms_are_accepted_before_anything_is_asked_for() {
    let body = cifar();
    let server = Server::new([("cifar.tar.gz", Page { body: body.clone(), ..Page::default() })]);
    let disk = Disk::new();
    let entry = DatasetEntry { terms: Some("no commerce".into()), ..entry(&server.url, &body) };
    let request = FetchRequest {
        distribution: entry.distribution(),
        root: &disk.sets(),
        downloads: &disk.downloads(),
        mirror: None,
        terms_accepted: false,
        patience: QUICK,
        limits: None,
    };
    let message = fetch(&request, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(message.contains("no commerce") && message.contains("--accept-licence"), "{message}");
    assert!(server.asked().is_empty());
}

#[test]
fn several_files_meet_in_one_folder_that_is_left_alone_if_something_is_in_the_way() {
    let body = cifar();
    let note = b"a second file".to_vec();
    let server = Server::new([
        ("cifar.tar.gz", Page { body: body.clone(), ..Page::default() }),
        ("notes.txt.gz", Page { body: gzip(&note), ..Page::default() }),
    ]);
    let (disk, mut entry) = (Disk::new(), entry(&server.url, &body));
    entry.sources.push(source(&format!("{}/notes.txt.gz", server.url), &gzip(&note)));
    let folder = disk.sets().join("cifar100");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    let message = disk.fetch(&entry).unwrap_err().to_string();
    assert!(message.contains("notes.txt is in the way"), "{message}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing was moved");
    fs::rename(folder.join("notes.txt"), folder.join("my notes.txt")).unwrap();
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    assert_eq!(fs::read(folder.join("notes.txt")).unwrap(), note);
    assert_eq!(fs::read(folder.join("my notes.txt")).unwrap(), b"mine");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn downloads_are_removed_except_those_that_another_set_needs() {
    let body = cifar();
    let server = Server::new([("cifar.tar.gz", Page { body: body.clone(), ..Page::default() })]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    disk.fetch(&entry).unwrap();
    assert_eq!(disk.files_of_downloads().len(), 1);
    let request = FetchRequest {
        distribution: entry.distribution(),
        root: Path::new("."),
        downloads: &disk.downloads(),
        mirror: None,
        terms_accepted: true,
        patience: QUICK,
        limits: None,
    };
    remove_downloads(&request, |_| true);
    assert_eq!(disk.files_of_downloads().len(), 1);
    remove_downloads(&request, |_| false);
    assert!(disk.files_of_downloads().is_empty());
}
