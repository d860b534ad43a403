//! Malicious archives: each is rejected with dataset, file and entry, and nothing is left behind or written elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;

use data_loaders::{FetchRequest, Limits, Mirror, Patience, dataset, fetch};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

/// Fetches NABirds, which has no checksum, from an archive of these bytes; returns the parent folder and the result.
fn unpack(name: &str, bytes: &[u8], limits: Option<Limits>) -> (TempDir, Result<(), String>) {
    let disk = tempfile::tempdir().unwrap();
    let path = disk.path().join(name);
    fs::write(&path, bytes).unwrap();
    let (root, downloads) = (disk.path().join("sets"), disk.path().join("downloads"));
    let entry = dataset("nabirds").unwrap();
    let request = FetchRequest {
        distribution: entry.distribution(),
        root: &root,
        downloads: &downloads,
        mirror: Some(&Mirror::File(path)),
        terms_accepted: true,
        patience: Patience::default(),
        limits,
        inspect: None,
        credential: None,
        hub: data_loaders::HUB,
    };
    let result = fetch(&request, &mut |_| ControlFlow::Continue(()));
    (disk, result.map(drop).map_err(|error| error.to_string()))
}

/// Checks that the archive is rejected with this message and leaves nothing behind.
#[track_caller]
fn assert_rejected(name: &str, bytes: &[u8], limits: Option<Limits>, words: &[&str]) {
    let (disk, result) = unpack(name, bytes, limits);
    let message = result.expect_err("the archive must be rejected");
    assert!(message.starts_with("nabirds: ") && message.contains(name), "{message}");
    for word in words {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
    let left: Vec<_> = fs::read_dir(disk.path().join("sets")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let outside: Vec<_> =
        fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(outside.len(), 2, "only the archive and the folder of sets: {outside:?}");
}

/// A tar of entries with unchecked names.
fn tar(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name_literal("/etc/passwd").unwrap();
        }
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip(entries: &[(&str, &[u8], Option<u32>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content, mode) in entries {
        let options = SimpleFileOptions::default();
        match mode {
            // The writer only keeps the file type for links.
            Some(0o120_777) => {
                archive.add_symlink(*name, std::str::from_utf8(content).unwrap(), options).unwrap();
            }
            _ => {
                archive.start_file(*name, options).unwrap();
                archive.write_all(content).unwrap();
            }
        }
    }
    archive.finish().unwrap().into_inner()
}

const GOOD: (&str, EntryType, &[u8]) = ("nabirds/images.txt", EntryType::Regular, b"1 a.jpg\n");

#[test]
fn valid_archives_of_every_kind_are_unpacked() {
    let body = tar(&[("./", EntryType::Directory, b""), GOOD, ("nabirds/empty/", EntryType::Directory, b"")]);
    let zipped = zip(&[("nabirds/", b"", None), ("nabirds/images.txt", b"1 a.jpg\n", None)]);
    for (name, bytes) in
        [("b.tar", body.clone()), ("b.tgz", gzip(&body)), ("b.tar.gz", gzip(&body)), ("b.zip", zipped)]
    {
        let (disk, result) = unpack(name, &bytes, None);
        result.unwrap();
        let text = fs::read(disk.path().join("sets/nabirds/nabirds/images.txt"));
        assert_eq!(text.unwrap(), b"1 a.jpg\n", "{name}");
    }
    let (disk, result) = unpack("images.txt.gz", &gzip(b"text"), None);
    result.unwrap();
    assert_eq!(fs::read(disk.path().join("sets/nabirds/images.txt")).unwrap(), b"text");
}

#[test]
fn an_archive_near_the_top_level_of_an_archive_is_unpacked_too() {
    let inner = gzip(&tar(&[GOOD]));
    let outer = zip(&[("pack/inner.tar.gz", &inner, None), ("pack/readme", b"hello", None)]);
    let (disk, result) = unpack("outer.zip", &outer, None);
    result.unwrap();
    let pack = disk.path().join("sets/nabirds/pack");
    assert!(pack.join("nabirds/images.txt").is_file() && pack.join("readme").is_file());
    assert!(!pack.join("inner.tar.gz").exists());
    let evil = zip(&[("pack/inner.tar", &tar(&[("../../../x", EntryType::Regular, b"x")]), None)]);
    let (_, result) = unpack("outer.zip", &evil, None);
    let message = result.unwrap_err();
    assert!(
        message.contains("inner.tar: entry 1") && message.contains("points outside the folder"),
        "{message}"
    );
}

#[test]
fn paths_outside_the_folder_are_rejected() {
    for name in ["../evil.txt", "nabirds/../../evil.txt", "/tmp/evil.txt", "a/./../../evil.txt"] {
        let words = ["entry 2", "its path points outside the folder", name];
        let body = tar(&[GOOD, (name, EntryType::Regular, b"x")]);
        assert_rejected("b.tar", &body, None, &words);
        assert_rejected("b.tar.gz", &gzip(&body), None, &words);
        assert_rejected("b.zip", &zip(&[("ok", b"", None), (name, b"x", None)]), None, &words);
    }
    assert_rejected(
        "b.tar",
        &tar(&[("..", EntryType::Directory, b"")]),
        None,
        &["entry 1", "points outside the folder"],
    );
    assert_rejected("b.zip", &zip(&[("..\\evil.txt", b"x", None)]), None, &["an invalid character"]);
    let deep = "a/".repeat(33) + "x";
    assert_rejected("b.tar", &tar(&[(&deep, EntryType::Regular, b"x")]), None, &["too deep"]);
}

#[test]
fn links_and_devices_are_rejected() {
    for (kind, word) in [
        (EntryType::Symlink, "it is a link"),
        (EntryType::Link, "it is a link"),
        (EntryType::Char, "neither a file nor a folder"),
        (EntryType::Block, "neither a file nor a folder"),
        (EntryType::Fifo, "neither a file nor a folder"),
    ] {
        // A later entry through the link would be written to its target.
        let body = tar(&[("nabirds", kind, b""), ("nabirds/passwd", EntryType::Regular, b"x")]);
        assert_rejected("b.tar", &body, None, &["entry 1, `nabirds`", word]);
    }
    assert_rejected(
        "b.zip",
        &zip(&[("link", b"/etc", Some(0o120_777))]),
        None,
        &["entry 1, `link`", "it is a link"],
    );
}

#[test]
fn bombs_are_rejected_by_unpacked_bytes_and_by_entries() {
    let zeros = vec![0; 3 << 20];
    let limits = Some(Limits { entries: 4, bytes: 1 << 20 });
    let words = ["it unpacks to more than 1048576 bytes"];
    assert_rejected("b.tar.gz", &gzip(&tar(&[("zeros", EntryType::Regular, &zeros)])), limits, &words);
    assert_rejected("b.zip", &zip(&[("zeros", &zeros, None)]), limits, &words);
    assert_rejected("b.gz", &gzip(&zeros), limits, &words);
    let inner = gzip(&tar(&[("zeros", EntryType::Regular, &zeros)]));
    let nested = zip(&[("inner.tar.gz", &inner, None)]);
    let (_, result) = unpack("outer.zip", &nested, limits);
    assert!(result.unwrap_err().contains(words[0]));
    let many = tar(&[GOOD; 5]);
    assert_rejected("b.tar", &many, limits, &["it has more than 4 entries"]);
    let names: Vec<String> = (0..5).map(|n| n.to_string()).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), &b""[..], None)).collect();
    assert_rejected("b.zip", &zip(&many), limits, &["it has more than 4 entries"]);
}

#[test]
fn without_given_limits_a_bomb_is_detected_by_its_ratio() {
    // 200 MiB of zeros compress to some 200 kB; the limit is a hundredfold plus 64 MiB.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..200 {
        encoder.write_all(&[0; 1 << 20]).unwrap();
    }
    assert_rejected("zeros.bin.gz", &encoder.finish().unwrap(), None, &["it unpacks to more than"]);
}

#[test]
fn truncated_archives_and_other_files_are_rejected() {
    let body = tar(&[GOOD, ("big", EntryType::Regular, &[7; 4000])]);
    let packed = gzip(&body);
    assert_rejected("b.tar", &body[..body.len() - 4000], None, &["entry"]);
    for end in [packed.len() / 2, packed.len() - 4] {
        assert_rejected("b.tar.gz", &packed[..end], None, &[]);
    }
    let mut wrong = packed.clone();
    let crc = wrong.len() - 6;
    wrong[crc] ^= 1;
    assert_rejected("b.tar.gz", &wrong, None, &["corrupt"]);
    let zipped = zip(&[("images.txt", &[7; 4000], None)]);
    assert_rejected("b.zip", &zipped[..zipped.len() / 2], None, &[]);
    for name in ["b.zip", "b.tar", "b.tar.gz", "b.gz"] {
        assert_rejected(name, b"not an archive, whatever its name", None, &[]);
    }
}

#[test]
fn an_archive_without_entries_is_rejected_with_its_name() {
    let empty = tar(&[]);
    let words = ["the archive has no entries"];
    assert_rejected("b.tar", &empty, None, &words);
    assert_rejected("b.tar", &[0; 10 * 1024], None, &words);
    assert_rejected("b.tar.gz", &gzip(&empty), None, &words);
    assert_rejected("b.tgz", &gzip(b""), None, &words);
    assert_rejected("b.zip", &zip(&[]), None, &words);
    let (_, result) = unpack("outer.zip", &zip(&[("inner.tar", &empty, None)]), None);
    let message = result.unwrap_err();
    assert!(message.contains("inner.tar") && message.contains(words[0]), "{message}");
    for name in ["b.tar", "b.tar.gz", "b.zip", "b.gz", "b.mat"] {
        assert_rejected(name, b"", None, &["it is empty"]);
    }
}

#[test]
fn the_archives_of_the_registry_are_within_the_limits() {
    // Required by the highest compression ratio in our datasets: 97,220 bytes of NORB's categories compress to 348.
    assert!(Limits::of_archive(348).bytes > 97_220);
    assert!(Limits::of_archive(131_896_188).bytes > 24_300 * 2 * 96 * 96);
}
