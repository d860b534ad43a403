//! Interrupted downloads: what is downloaded again, from which byte, and that the result is the same file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/server.rs"]
mod server;

use std::ops::ControlFlow;

use data_loaders::{FetchError, FetchEvent, Step, planned_files};
use disk::{Disk, cifar, entry, opens};
use server::{Page, Server};

#[test]
fn an_interrupted_download_resumes_and_requests_the_same_file_version() {
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
    disk.fetch_watched(&entry, watch).unwrap();
    opens(&disk, &entry);
    let requests = server.requests();
    let ranges: Vec<_> =
        requests.iter().map(|requests| requests.headers.get("range").map(String::as_str)).collect();
    assert_eq!(ranges, [None, Some("bytes=100-"), Some("bytes=107-")]);
    assert!(requests[1..].iter().all(|requests| requests.headers["if-range"] == "\"one\""));
    assert_eq!(retries, 2);
}

#[test]
fn a_partial_download_is_not_published_and_is_resumed_later() {
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
    let message = disk.rejection(&entry);
    assert!(message.starts_with("gic_cifar100: http://127.0.0.1"), "{message}");
    assert!(
        message.contains("/cifar.tar.gz: cut off after") && message.contains(&half.to_string()),
        "{message}"
    );
    let request = disk.request(&entry);
    assert_eq!(planned_files(&request).unwrap()[0].bytes_on_disk, half as u64);
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    assert_eq!(server.requests().last().unwrap().headers["range"], format!("bytes={half}-"));
}

#[test]
fn a_file_that_changed_on_the_server_is_downloaded_from_the_beginning() {
    let (old, body) = (vec![7; 5000], cifar());
    let page =
        Page { body: old, etag: Some("\"old\""), ranges: true, cuts: vec![64, 0, 0], ..Page::default() };
    let server = Server::new([("cifar.tar.gz", page)]);
    let (disk, mut entry) = (Disk::new(), entry(&server.url, &body));
    entry.sources[0].size = None;
    disk.rejection(&entry);
    server.change("cifar.tar.gz", |page| {
        *page = Page { body: body.clone(), etag: Some("\"new\""), ranges: true, ..Page::default() };
    });
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
}

#[test]
fn a_server_without_range_support_sends_the_whole_file_again() {
    let body = cifar();
    let page = Page { body: body.clone(), etag: Some("\"one\""), cuts: vec![500], ..Page::default() };
    let server = Server::new([("cifar.tar.gz", page)]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    assert_eq!(server.requests()[1].headers["range"], "bytes=500-");
}

#[test]
fn without_validator_and_checksum_a_download_starts_over() {
    let body = cifar();
    let page = Page { body: body.clone(), ranges: true, cuts: vec![500], ..Page::default() };
    let server = Server::new([("cifar.tar.gz", page)]);
    let (disk, mut entry) = (Disk::new(), entry(&server.url, &body));
    entry.sources[0].sha256 = None;
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    assert!(server.requests().iter().all(|requests| !requests.headers.contains_key("range")));
}

#[test]
fn a_complete_partial_file_is_recognised() {
    let body = cifar();
    let page = Page { body: body.clone(), etag: Some("\"one\""), ranges: true, ..Page::default() };
    let server = Server::new([("cifar.tar.gz", page)]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    // Stopped after the last byte had arrived, before the file was renamed.
    let mut loaded = 0;
    let stopped = disk.fetch_watched(&entry, &mut |event| match event {
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
    assert_eq!(server.requests().len(), 2, "the second is answered by 416");
}

#[test]
fn a_redirect_keeps_the_range_header() {
    let body = cifar();
    let page =
        Page { body: body.clone(), etag: Some("\"one\""), ranges: true, cuts: vec![300], ..Page::default() };
    let there = Server::new([("elsewhere", page)]);
    let redirect = Some(format!("{}/elsewhere", there.url));
    let server = Server::new([("cifar.tar.gz", Page { redirect, ..Page::default() })]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    let requests = there.requests();
    assert!(requests.iter().all(|requests| requests.path == "/elsewhere"));
    assert_eq!(requests[1].headers["range"], "bytes=300-");
}

#[test]
fn a_stopped_download_is_resumed() {
    let body = cifar();
    let page = Page { body: body.clone(), etag: Some("\"one\""), ranges: true, ..Page::default() };
    let server = Server::new([("cifar.tar.gz", page)]);
    let (disk, entry) = (Disk::new(), entry(&server.url, &body));
    let stopped = disk.fetch_watched(&entry, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(FetchError::Stopped { .. })));
    disk.fetch(&entry).unwrap();
    opens(&disk, &entry);
    assert!(server.requests()[1].headers.contains_key("range"));
}
