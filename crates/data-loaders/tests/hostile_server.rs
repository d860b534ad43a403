//! Malicious or broken servers: each download ends with a one-sentence error, nothing wrong is published, and never
//! more than the stated size is written to disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/server.rs"]
mod server;

use std::io::Write;
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use data_loaders::{Credential, DatasetEntry, FetchEvent, FetchRequest, Patience, Step, fetch};
use disk::{Disk, QUICK, cifar, entry, gzip, unchecked};
use server::{Page, Server};

/// The stated size; no server in these tests can make the client write more.
const STATED: u64 = 1000;
/// The second response is the last.
const TWICE: Patience = Patience { attempts: 2, ..QUICK };
/// For silent or slow servers.
const IMPATIENT: Patience =
    Patience { attempts: 2, pause: Duration::from_millis(5), timeout: Duration::from_millis(200) };

/// A server for `notes.bin`.
fn serving(page: Page) -> Server {
    Server::new([("notes.bin", page)])
}

/// Writes a head and a body, and closes the connection.
fn send(stream: &mut TcpStream, head: &str, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body)
}

/// Checks for a one-sentence error with these words, and at most the stated number of bytes on disk.
#[track_caller]
fn assert_rejected(patience: Patience, entry: &DatasetEntry, words: &str) -> Disk {
    let (disk, start) = (Disk::new(), Instant::now());
    let message = disk.rejection_of(&FetchRequest { patience, ..disk.request(entry) });
    assert!(start.elapsed() < Duration::from_secs(4), "it took {:?}: {message}", start.elapsed());
    assert!(message.starts_with("gic_cifar100: ") && !message.contains('\n'), "{message}");
    assert!(message.contains(words), "no `{words}` in: {message}");
    let bytes = disk.bytes_of_downloads();
    assert!(bytes <= STATED, "{bytes} bytes are on disk: {message}");
    disk
}

/// Fetches one dataset, and halfway through another from the same server, which would be stopped at its first bytes;
/// returns the second one's message.
fn fetch_both(other: impl Fn(&DatasetEntry) -> DatasetEntry) -> (Disk, DatasetEntry, String) {
    let body: Vec<u8> = (0..2_300_000_u32).map(|n| (n % 251) as u8).collect();
    let server = serving(Page { body: body.clone(), ..Page::default() });
    let (disk, entry) = (Disk::new(), unchecked(&server.url, None));
    let other = other(&entry);
    let mut second = None;
    let first = disk.fetch_watched(&entry, &mut |event| {
        if let FetchEvent::Progress { step: Step::Load, done, .. } = event
            && *done > 600_000
            && second.is_none()
        {
            second = Some(disk.fetch_watched(&other, &mut |_| ControlFlow::Break(())));
        }
        ControlFlow::Continue(())
    });
    first.unwrap();
    assert!(disk.notes() == body, "the first fetch publishes what the server sent");
    (disk, other, second.unwrap().unwrap_err().to_string())
}

#[test]
fn a_concurrent_second_fetch_is_rejected_and_the_first_completes() {
    let (.., message) = fetch_both(DatasetEntry::clone);
    assert!(message.contains("another fetch is using"), "{message}");
}

#[test]
fn two_data_sets_that_share_a_download_do_not_write_to_the_same_file() {
    let (disk, other, message) =
        fetch_both(|entry| DatasetEntry { folder: Some("other".into()), ..entry.clone() });
    assert!(message.contains("another fetch is using") && message.contains("notes.bin.part"), "{message}");
    disk.fetch(&other).unwrap();
}

#[test]
fn a_range_that_ends_before_the_total_does_not_complete_the_file() {
    let server = serving(Page::raw(|request, stream| match request.start() {
        None => send(stream, "200 OK\r\nETag: \"one\"\r\nContent-Length: 1000", &[1; 100]),
        Some(start) => {
            let end = start + 49;
            let range = format!("Content-Range: bytes {start}-{end}/1000");
            send(
                stream,
                &format!("206 Partial Content\r\nETag: \"one\"\r\nContent-Length: 50\r\n{range}"),
                &[1; 50],
            )
        }
    }));
    assert_rejected(QUICK, &unchecked(&server.url, None), "of 1000 bytes");
}

#[test]
fn a_total_that_changes_between_ranges_is_rejected() {
    let server = serving(Page::raw(|request, stream| match request.start() {
        None => send(stream, "200 OK\r\nETag: \"one\"\r\nContent-Length: 1000", &[1; 100]),
        Some(_) => send(
            stream,
            "206 Partial Content\r\nETag: \"one\"\r\nContent-Length: 50\r\nContent-Range: bytes 100-149/150",
            &[1; 50],
        ),
    }));
    assert_rejected(TWICE, &unchecked(&server.url, None), "150 bytes instead of 1000");
}

#[test]
fn a_range_with_another_entity_tag_is_not_appended() {
    let server = serving(Page::raw(|request, stream| {
        match request.headers.get("if-range").map(String::as_str) {
            Some("\"old\"") => send(
                stream,
                "206 Partial Content\r\nETag: \"new\"\r\nContent-Length: 900\r\nContent-Range: bytes 100-999/1000",
                &[2; 900],
            ),
            _ => send(stream, "200 OK\r\nETag: \"old\"\r\nContent-Length: 1000", &[1; 100]),
        }
    }));
    let entry = unchecked(&server.url, None);
    let disk = assert_rejected(TWICE, &entry, "has changed on the server");
    server.change("notes.bin", |page| {
        *page = Page { body: vec![2; 1000], etag: Some("\"new\""), ranges: true, ..Page::default() };
    });
    disk.fetch(&entry).unwrap();
    assert_eq!(disk.notes(), [2; 1000]);
}

#[test]
fn an_unrequested_range_is_rejected() {
    let server = serving(Page::raw(|_, stream| {
        send(stream, "206 Partial Content\r\nContent-Length: 50\r\nContent-Range: bytes 0-49/1000", &[1; 50])
    }));
    assert_rejected(QUICK, &unchecked(&server.url, None), "not requested");
    assert_rejected(QUICK, &unchecked(&server.url, Some(STATED)), "not requested");
}

#[test]
fn a_range_that_does_not_start_at_zero_is_rejected_without_a_partial_file() {
    let server = serving(Page::raw(|_, stream| {
        send(
            stream,
            "206 Partial Content\r\nContent-Length: 50\r\nContent-Range: bytes 950-999/1000",
            &[1; 50],
        )
    }));
    assert_rejected(QUICK, &unchecked(&server.url, None), "not requested");
}

#[test]
fn an_unsatisfiable_range_before_the_total_is_not_treated_as_complete() {
    let server = serving(Page::raw(|request, stream| match request.start() {
        None => send(stream, "200 OK\r\nETag: \"one\"\r\nContent-Length: 1000", &[1; 100]),
        Some(_) => {
            send(stream, "416 Range Not Satisfiable\r\nContent-Length: 0\r\nContent-Range: bytes */100", &[])
        }
    }));
    assert_rejected(TWICE, &unchecked(&server.url, None), "no more data");
}

#[test]
fn a_compressed_response_body_is_rejected() {
    let packed = gzip(b"the contents of the file");
    let server = serving(Page::raw(move |_, stream| {
        let head = format!("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}", packed.len());
        send(stream, &head, &packed)
    }));
    assert_rejected(QUICK, &unchecked(&server.url, None), "gzip");
    assert_eq!(server.requests()[0].headers["accept-encoding"], "identity");
}

#[test]
fn an_archive_served_with_its_own_compression_as_encoding_is_accepted() {
    // Apache's `AddEncoding x-gzip .gz .tgz` sends this for files that are stored compressed.
    let body = cifar();
    let page = body.clone();
    let server = Server::new([(
        "cifar.tar.gz",
        Page::raw(move |_, stream| {
            let head = format!("200 OK\r\nContent-Encoding: x-gzip\r\nContent-Length: {}", page.len());
            send(stream, &head, &page)
        }),
    )]);
    Disk::new().fetch(&entry(&server.url, &body)).unwrap();
}

#[test]
fn an_endless_body_is_limited_to_the_known_size() {
    let endless = |head: &'static str, piece: Vec<u8>| {
        serving(Page::raw(move |_, stream| {
            send(stream, head, &[])?;
            // A client that reads all of it needs seconds, and the test fails.
            (0..100_000).try_for_each(|_| stream.write_all(&piece))
        }))
    };
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000)).into_bytes();
    for server in [endless("200 OK\r\nTransfer-Encoding: chunked", chunk), endless("200 OK", vec![1; 1000])] {
        assert_rejected(QUICK, &unchecked(&server.url, Some(STATED)), "more than the 1000 bytes");
        assert_rejected(QUICK, &unchecked(&server.url, None), "states the size");
    }
}

#[test]
fn a_range_longer_than_stated_is_limited_to_the_total() {
    let server = serving(Page::raw(|request, stream| match request.start() {
        None => send(stream, "200 OK\r\nETag: \"one\"\r\nContent-Length: 1000", &[1; 100]),
        Some(_) => send(
            stream,
            "206 Partial Content\r\nETag: \"one\"\r\nContent-Length: 5000000\r\nContent-Range: bytes 100-999/1000",
            &vec![1; 5_000_000],
        ),
    }));
    assert_rejected(QUICK, &unchecked(&server.url, None), "more than the 1000 bytes");
}

#[test]
fn an_empty_file_is_rejected() {
    let server = serving(Page::default());
    assert_rejected(QUICK, &unchecked(&server.url, None), "empty");
}

#[test]
fn a_slowly_dripping_body_hits_the_stall_timeout() {
    let server = serving(Page::raw(|_, stream| {
        send(stream, "200 OK\r\nETag: \"one\"\r\nContent-Length: 1000", &[])?;
        drip(stream, b"x")
    }));
    assert_rejected(IMPATIENT, &unchecked(&server.url, None), "stalled");
}

#[test]
fn endless_headers_hit_the_stall_timeout() {
    let server = serving(Page::raw(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nX-Slow: ")?;
        drip(stream, b"x")
    }));
    assert_rejected(IMPATIENT, &unchecked(&server.url, None), "no response within");
}

#[test]
fn endless_trailers_hit_the_stall_timeout() {
    let server = serving(Page::raw(|_, stream| {
        send(stream, "200 OK\r\nTransfer-Encoding: chunked", b"1\r\nx\r\n0\r\n")?;
        drip(stream, b"X-Slow: x\r\n")
    }));
    assert_rejected(IMPATIENT, &unchecked(&server.url, Some(STATED)), "stalled");
}

#[test]
fn a_silent_server_hits_the_stall_timeout() {
    let server = serving(Page::raw(|_, _| {
        std::thread::sleep(Duration::from_secs(10));
        Ok(())
    }));
    assert_rejected(IMPATIENT, &unchecked(&server.url, None), "no response within");
}

/// Sends a piece every twenty milliseconds until the client disconnects.
fn drip(stream: &mut TcpStream, piece: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(piece)?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn redirect_loops_terminate() {
    let server = Server::new([
        ("notes.bin", Page { redirect: Some("/other.bin".into()), ..Page::default() }),
        ("other.bin", Page { redirect: Some("notes.bin".into()), ..Page::default() }),
    ]);
    assert_rejected(QUICK, &unchecked(&server.url, None), "redirects more than 10 times");
    assert_eq!(server.requests().len(), 11, "a redirect loop is not retried");
}

#[test]
fn redirects_without_a_target_or_to_another_scheme_are_rejected() {
    for (place, words) in [
        ("file:///etc/passwd", "not an http URL"),
        ("ftp://127.0.0.1/notes.bin", "not an http URL"),
        ("http://", "redirects to `http://`"),
    ] {
        let server = serving(Page { redirect: Some(place.into()), ..Page::default() });
        assert_rejected(QUICK, &unchecked(&server.url, None), words);
    }
    let server = serving(Page::raw(|_, stream| send(stream, "302 Found\r\nContent-Length: 0", &[])));
    assert_rejected(QUICK, &unchecked(&server.url, None), "without a location");
}

#[test]
fn the_body_of_a_redirect_is_not_read() {
    let there = serving(Page { body: vec![7; 1000], ..Page::default() });
    let place = format!("{}/notes.bin", there.url);
    let server = serving(Page::raw(move |_, stream| {
        send(stream, &format!("302 Found\r\nLocation: {place}\r\nContent-Length: 100000000"), &[])?;
        drip(stream, b"x")
    }));
    let disk = Disk::new();
    disk.fetch(&unchecked(&server.url, None)).unwrap();
    assert_eq!(disk.notes(), [7; 1000]);
}

#[test]
fn a_token_is_only_sent_to_its_own_site_despite_redirects() {
    // Another port of the same machine is another site.
    let there = serving(Page { body: vec![7; 1000], ..Page::default() });
    let redirect = Some(format!("{}/notes.bin", there.url));
    let server = Server::new([
        ("notes.bin", Page { redirect: Some("/again.bin".into()), ..Page::default() }),
        ("again.bin", Page { redirect, ..Page::default() }),
    ]);
    let (disk, entry) = (Disk::new(), unchecked(&server.url, None));
    let credential = Credential::new(&server.url, "secret");
    let request = FetchRequest { credential: Some(&credential), ..disk.request(&entry) };
    fetch(&request, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(disk.notes(), [7; 1000]);
    let sent: Vec<_> =
        server.requests().iter().map(|request| request.headers["authorization"].clone()).collect();
    assert_eq!(sent, ["Bearer secret"; 2]);
    assert!(!there.requests()[0].headers.contains_key("authorization"));
}

#[test]
fn a_token_with_a_line_break_is_rejected_and_not_printed() {
    let server = serving(Page { body: vec![7; 1000], ..Page::default() });
    let (disk, entry) = (Disk::new(), unchecked(&server.url, None));
    let credential = Credential::new(&server.url, "secret\r\nX-Other: 1");
    let request = FetchRequest { credential: Some(&credential), ..disk.request(&entry) };
    let message = disk.rejection_of(&request);
    assert!(!message.contains("secret") && server.requests().is_empty(), "{message}");
}
