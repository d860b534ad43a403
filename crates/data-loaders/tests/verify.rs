//! `verify`: every kind of damage is reported with dataset, file and line, duplicates are reported, and the checksum is
//! that of the manifest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{fixtures, write_grey, write_text};
use data_loaders::{DatasetEntry, ImageSet, Verification, dataset, verify, verify_watched};
use image::{Rgb, RgbImage};
use tempfile::TempDir;

/// A dataset `svhn` of 4 + 2 + 3 images, of which the fourth is a JPEG.
fn folder() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("svhn");
    for (list, range) in [("train800", 0..4), ("val200", 4..6), ("test", 6..9), ("train800val200", 0..6)] {
        let lines: String =
            range.map(|index| format!("images/{index}.{} {index}\n", ending(index))).collect();
        write_text(&folder, &format!("{list}.txt"), &lines);
    }
    for index in 0..9 {
        write_grey(&folder.join(format!("images/{index}.{}", ending(index))), index * 10);
    }
    (root, folder)
}

fn ending(index: u8) -> &'static str {
    if index == 3 { "jpg" } else { "png" }
}

fn verify_svhn(root: &Path) -> Verification {
    verify(dataset("svhn").unwrap(), root).unwrap()
}

fn rejection(entry: &DatasetEntry, root: &Path) -> String {
    verify(entry, root).expect_err("the damage is found").to_string()
}

#[test]
fn a_valid_data_set_has_no_faults_and_its_checksum_is_that_of_its_manifest() {
    let (root, _) = folder();
    let found = verify_svhn(root.path());
    assert!(found.is_sound() && found.duplicates.is_empty(), "{found}");
    assert_eq!(found.checksum, blake3::hash(found.manifest.as_bytes()).to_hex().to_string());
    let set = ImageSet::open(dataset("svhn").unwrap(), root.path()).unwrap();
    assert_eq!(found.checksum, set.checksum(), "results carry the manifest's checksum");
    let file = fs::read(root.path().join("svhn/images/7.png")).unwrap();
    let line = format!("{}  test 7 images/7.png", blake3::hash(&file).to_hex());
    assert!(found.manifest.lines().any(|other| other == line), "{}", found.manifest);
    assert!(found.to_string().contains("4 / 2 / 3 images (VTAB-1k style)"), "{found}");
    assert!(found.to_string().contains("the registry lists 800 / 200 / 26032"), "{found}");
}

#[test]
fn the_checksum_does_not_depend_on_the_location_of_the_folder() {
    let ((one, _), (other, _)) = (folder(), folder());
    assert_eq!(verify_svhn(one.path()).manifest, verify_svhn(other.path()).manifest);
}

#[test]
fn every_undecodable_image_is_reported_not_only_the_first() {
    let (root, folder) = folder();
    let jpeg = folder.join("images/3.jpg");
    RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8, y as u8, (x * y) as u8])).save(&jpeg).unwrap();
    let bytes = fs::read(&jpeg).unwrap();
    fs::write(&jpeg, &bytes[..bytes.len() / 2]).unwrap();
    fs::write(folder.join("images/5.png"), "").unwrap();
    fs::write(folder.join("images/6.png"), "text with an image extension").unwrap();
    let found = verify_svhn(root.path());
    let messages: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
    assert!(!found.is_sound() && messages.len() == 3, "{messages:?}");
    for (message, (line, file, reason)) in messages.iter().zip([
        ("train800.txt:4: ", "3.jpg", "truncated"),
        ("val200.txt:2: ", "5.png", "not an image"),
        ("test.txt:1: ", "6.png", "not an image"),
    ]) {
        assert!(message.starts_with("svhn: ") && message.contains(line), "{message}");
        assert!(message.contains(file) && message.contains(reason), "{message}");
    }
    assert!(found.to_string().contains("fault: svhn: "), "{found}");
}

/// A PNG of a few bytes whose header claims 10,000 x 10,000 pixels.
fn bomb() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let size = 10_000_u32.to_be_bytes();
    let header = [&size[..], &size[..], &[8, 0, 0, 0, 0]].concat();
    for (kind, content) in
        [(b"IHDR", header.as_slice()), (b"IDAT", &[0x78, 0x9C, 3, 0, 0, 0, 0, 1]), (b"IEND", &[])]
    {
        bytes.extend((content.len() as u32).to_be_bytes());
        let chunk = [&kind[..], content].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&chunk);
        bytes.extend(&chunk);
        bytes.extend(crc.sum().to_be_bytes());
    }
    bytes
}

#[test]
fn an_image_of_a_hundred_megapixels_is_rejected_by_its_header() {
    let (root, folder) = folder();
    fs::write(folder.join("images/8.png"), bomb()).unwrap();
    let found = verify_svhn(root.path());
    let message = found.faults[0].to_string();
    assert!(message.contains("test.txt:3: ") && message.contains("8.png"), "{message}");
    assert!(message.contains("claims 10000 x 10000 pixels"), "{message}");
}

#[test]
fn a_non_numeric_label_a_repeated_path_and_a_missing_file_are_reported_with_their_line() {
    let entry = dataset("svhn").unwrap();
    let (root, folder) = folder();
    let list = fs::read_to_string(folder.join("test.txt")).unwrap();
    write_text(&folder, "test.txt", &list.replace("7.png 7", "7.png seven"));
    assert!(rejection(entry, root.path()).contains("test.txt:2: expected `relative/path label`"));
    write_text(&folder, "test.txt", &list.replace("8.png 8", "6.png 6"));
    assert!(rejection(entry, root.path()).contains("test.txt:3: the image"));
    write_text(&folder, "test.txt", &list);
    for missing in ["6.png", "8.png"] {
        fs::remove_file(folder.join("images").join(missing)).unwrap();
    }
    let messages: Vec<String> = verify_svhn(root.path()).faults.iter().map(ToString::to_string).collect();
    assert!(messages[0].contains("test.txt:1: the image") && messages[0].contains("6.png does not exist"));
    assert!(messages[1].contains("test.txt:3: the image") && messages.len() == 2, "{messages:?}");
}

#[test]
fn progress_is_reported_for_every_image() {
    let (root, _) = folder();
    let (calls, last) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let watch = |done: usize, total: usize| {
        assert_eq!(total, 9);
        calls.fetch_add(1, Ordering::Relaxed);
        last.fetch_max(done, Ordering::Relaxed);
    };
    verify_watched(dataset("svhn").unwrap(), root.path(), &watch).unwrap();
    assert_eq!((calls.into_inner(), last.into_inner()), (9, 9));
}

#[test]
fn duplicates_are_reported_and_leaks_into_the_test_split_are_counted() {
    let (root, folder) = folder();
    fs::copy(folder.join("images/0.png"), folder.join("images/7.png")).unwrap();
    fs::copy(folder.join("images/0.png"), folder.join("images/4.png")).unwrap();
    fs::copy(folder.join("images/6.png"), folder.join("images/8.png")).unwrap();
    let found = verify_svhn(root.path());
    let parts: Vec<_> = found.duplicates.iter().map(|pair| (pair.parts, pair.labels)).collect();
    assert_eq!(parts, [(["train", "val"], [0, 4]), (["train", "test"], [0, 7]), (["test", "test"], [6, 8])]);
    assert_eq!(found.leaks().count(), 1);
    assert!(found.is_sound(), "duplicates are reported but are not faults");
    assert!(found.to_string().contains("3 duplicate images, 1 of them in test and another split"), "{found}");
}

#[test]
fn images_in_arrays_are_verified_like_files() {
    let entry = DatasetEntry { folder: Some("svhn".into()), ..dataset("svhn").unwrap().clone() };
    let found = verify(&entry, &fixtures("originals")).unwrap();
    assert!(found.is_sound() && found.manifest.lines().count() == 8, "{found}");
    assert!(found.manifest.contains("test 3 test_32x32.mat[0]"), "{}", found.manifest);
}

#[test]
fn the_real_data_sets_are_valid_if_san_data_is_set() {
    let Some(data) = std::env::var_os("SAN_DATA") else {
        skipped::report("SAN_DATA is not set");
        return;
    };
    for (set, root) in [("dtd10", "vtab"), ("gic_cifar100", "gic")] {
        let found = verify(dataset(set).unwrap(), &Path::new(&data).join("vision").join(root)).unwrap();
        assert!(found.is_sound(), "{found}");
        println!("{found}");
    }
}
