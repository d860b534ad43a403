//! Original distributions: tiny faithful copies made with the authors' own libraries (tools/original_fixtures.py) yield
//! the right pixels with the right labels in the right parts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use common::{entry, fixtures, images_of, message_after};
use data_loaders::{ImageSet, Split, SplitOrigin};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, Deserialize)]
struct Expected {
    part: String,
    label: u32,
    sha256: Option<String>,
    grey: Option<u8>,
}

impl Expected {
    /// A string that identifies the image.
    fn key(&self) -> String {
        self.sha256.clone().unwrap_or_else(|| format!("grey {}", self.grey.unwrap()))
    }
}

fn expected(name: &str) -> Vec<Expected> {
    let text = fs::read_to_string(fixtures("originals").join("expected.json")).unwrap();
    let mut all: HashMap<String, Vec<Expected>> = serde_json::from_str(&text).unwrap();
    all.remove(name).unwrap()
}

/// Reads a fixture at its own size and compares every image with the expectation.
fn check(set: &str, folder: &str, expectation: &str, side: u32) -> ImageSet {
    let set = ImageSet::open(&entry(set, folder), &fixtures("originals")).unwrap();
    let expected = expected(expectation);
    let by_key: HashMap<String, &Expected> = expected.iter().map(|image| (image.key(), image)).collect();
    assert_eq!(by_key.len(), expected.len(), "the fixture's images differ");
    let has = |part: &str| expected.iter().any(|image| image.part == part);
    let mut found = 0;
    for split in [Split::Train, Split::Val, Split::Test] {
        for (image, label) in images_of(&set, split, side).iter().zip(set.labels(split)) {
            let sha256: String = Sha256::digest(image).iter().map(|byte| format!("{byte:02x}")).collect();
            // A uniform grey JPEG is identified by its level, to the nearest ten.
            let grey = format!("grey {}", (u32::from(image[0]) + 5) / 10 * 10);
            let expected = by_key.get(&sha256).or_else(|| by_key.get(&grey)).expect("the pixels are known");
            assert_eq!(*label, expected.label);
            let allowed = match split {
                Split::Train => "train",
                Split::Val if !has("val") && set.entry().name.starts_with("smallnorb") => "test",
                Split::Val if !has("val") => "train",
                Split::Test if !has("test") => "train",
                Split::Val => "val",
                _ => "test",
            };
            assert_eq!(expected.part, allowed);
            found += 1;
        }
    }
    assert_eq!(found, expected.len(), "every image is in some part");
    assert_eq!(set.split_origin(), SplitOrigin::Seeded);
    set
}

#[test]
fn cifar_is_read_from_the_binary_version() {
    let set = check("gic_cifar100", "cifar_binary", "cifar_binary", 32);
    assert_eq!((set.len(Split::Train), set.len(Split::Val), set.len(Split::Test)), (5, 1, 4));
    assert_eq!(set.split_origin().label(set.entry().suite), "GIC style");
}

#[test]
fn cifar_is_read_from_the_python_version() {
    let set = check("cifar100", "cifar_python", "cifar_python", 32);
    assert_eq!(set.split_origin().label(set.entry().suite), "VTAB-1k style");
}

#[test]
fn svhn_is_read_from_compressed_and_plain_matrices() {
    check("svhn", "svhn", "svhn", 32);
}

#[test]
fn flowers_are_split_by_setid_in_both_suites() {
    check("oxford_flowers102", "flowers", "flowers", 8);
    check("oxford_flowers", "flowers", "flowers", 8);
}

#[test]
fn dogs_are_read_from_cell_arrays_of_paths() {
    let set = check("stanford_dogs", "stanford_dogs", "stanford_dogs", 8);
    assert_eq!((set.len(Split::Train), set.len(Split::Val)), (9, 1));
}

#[test]
fn cars_are_read_from_annotation_structures() {
    check("stanford_cars", "stanford_cars", "stanford_cars", 8);
}

#[test]
fn patch_camelyon_is_read_from_hdf5_chunks_with_and_without_shuffle() {
    check("patch_camelyon", "patch_camelyon", "patch_camelyon", 96);
}

#[test]
fn dsprites_labels_are_the_vtab_bins_of_either_factor() {
    check("dsprites_location", "dsprites", "dsprites_location", 64);
    check("dsprites_orientation", "dsprites", "dsprites_orientation", 64);
}

#[test]
fn small_norb_uses_the_left_image_and_halves_the_test_split() {
    let set = check("smallnorb_azimuth", "smallnorb", "smallnorb_azimuth", 24);
    assert_eq!((set.len(Split::Val), set.len(Split::Test)), (4, 4));
    check("smallnorb_elevation", "smallnorb", "smallnorb_elevation", 24);
}

#[test]
fn image_tables_of_the_hub_are_read_across_shards_and_row_groups() {
    check("gic_cifar100", "tables", "tables", 20);
}

#[test]
fn dmlab_is_read_from_records_in_several_files() {
    let set = check("dmlab", "dmlab", "dmlab", 20);
    assert_eq!((set.len(Split::Train), set.len(Split::Val), set.len(Split::Test)), (5, 2, 3));
    assert_eq!(set.labels(Split::TrainVal), [0, 5, 3, 2, 2, 4, 1]);
}

/// Reads tables of the Hub; every part has the expected images with their labels, in order.
fn check_in_order(set: &str, folder: &str) {
    let opened = ImageSet::open(&entry(set, folder), &fixtures("originals")).unwrap();
    let expected = expected(&format!("hub_{set}"));
    for (split, part) in [(Split::Train, "train"), (Split::Val, "val"), (Split::Test, "test")] {
        let images = images_of(&opened, split, 20);
        let found: Vec<_> =
            images.iter().map(|image| hex(image)).zip(opened.labels(split).iter().copied()).collect();
        let expected = expected.iter().filter(|image| image.part == part);
        let expected: Vec<_> = expected.map(|image| (image.key(), image.label)).collect();
        assert_eq!(found, expected, "{set} {part}");
    }
    assert_eq!(opened.split_origin(), SplitOrigin::FirstRows);
    assert_eq!(opened.split_label(), "VTAB-1k style");
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn tables_of_the_hub_are_cut_in_order_with_the_columns_of_the_registry() {
    check_in_order("clevr_count", "hub_clevr");
    check_in_order("clevr_distance", "hub_clevr");
    check_in_order("smallnorb_azimuth", "hub_smallnorb");
    check_in_order("smallnorb_elevation", "hub_smallnorb");
    check_in_order("eurosat", "hub_eurosat");
}

#[test]
fn a_table_of_the_hub_without_the_named_column_or_part_is_reported() {
    let message = message_after("dsprites_location", "hub_eurosat", |_| ());
    assert!(
        message.contains("train-00000-of-00001.parquet: it has no column label_x_position_16"),
        "{message}"
    );
    let message = message_after("clevr_count", "hub_clevr", |root| {
        fs::remove_file(root.join("data/validation-00000-of-00001.parquet")).unwrap();
    });
    assert!(message.contains("there is no table validation-*.parquet"), "{message}");
}

#[test]
fn a_record_with_a_wrong_checksum_is_rejected_wherever_the_damage_is() {
    let file = "dmlab-validation.tfrecord-00000-of-00001";
    let size = fs::read(fixtures("originals/dmlab").join(file)).unwrap().len();
    for place in [0, 7, 8, 11, 12, 13, 40, size / 2, size - 5, size - 1] {
        let message = message_after("dmlab", "dmlab", |root| {
            let path = root.join(file);
            let mut bytes = fs::read(&path).unwrap();
            bytes[place] ^= 1;
            fs::write(path, bytes).unwrap();
        });
        assert!(message.contains(&format!("{file}: record ")), "{place}: {message}");
        let what =
            if place < 12 { "its length is damaged: its checksum is wrong" } else { "checksum is wrong" };
        assert!(message.contains(what), "{place}: {message}");
    }
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() * 2 / 3]).unwrap();
}

#[test]
fn a_truncated_container_is_rejected_with_its_name() {
    for (set, folder, file) in [
        ("gic_cifar100", "cifar_binary", "cifar-100-binary/test.bin"),
        ("gic_cifar100", "cifar_python", "cifar-100-python/test"),
        ("svhn", "svhn", "test_32x32.mat"),
        ("svhn", "svhn", "train_32x32.mat"),
        ("oxford_flowers", "flowers", "setid.mat"),
        ("patch_camelyon", "patch_camelyon", "camelyonpatch_level_2_split_test_x.h5"),
        ("dsprites_location", "dsprites", "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"),
        ("smallnorb_azimuth", "smallnorb", "smallnorb-5x01235x9x18x6x2x96x96-testing-info.mat"),
        ("smallnorb_azimuth", "smallnorb", "smallnorb-5x01235x9x18x6x2x96x96-testing-dat.mat"),
        ("gic_cifar100", "tables", "data/test-00000-of-00001.parquet"),
        ("eurosat", "hub_eurosat", "data/train-00000-of-00001.parquet"),
        ("dmlab", "dmlab", "dmlab-train.tfrecord-00001-of-00002"),
    ] {
        let message = message_after(set, folder, |root| cut(&root.join(file)));
        assert!(message.starts_with(&format!("{set}: ")) && message.contains(file), "{message}");
    }
}

#[test]
fn a_missing_split_and_an_unknown_layout_are_reported() {
    let message = message_after("svhn", "svhn", |root| fs::remove_file(root.join("test_32x32.mat")).unwrap());
    assert!(message.contains("test_32x32.mat") && message.contains("does not exist"), "{message}");
    let message =
        message_after("svhn", "svhn", |root| fs::remove_file(root.join("train_32x32.mat")).unwrap());
    assert!(message.contains("no supported layout") && message.contains("train_32x32.mat"), "{message}");
}

#[test]
fn code_in_a_pickle_is_not_executed() {
    let attack = b"\x80\x02}(U\x0bfine_labelscos\nsystem\nU\x04trueRU\x04data]u.";
    let message = message_after("gic_cifar100", "cifar_python", |root| {
        fs::write(root.join("cifar-100-python/train"), attack).unwrap();
    });
    assert!(message.contains("no `fine_labels` of the expected type"), "{message}");
}
