//! Invalid labels are rejected with file and row: nothing is rounded, truncated or wrapped into a class.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;

use common::{message_after, write_factors};

/// A MAT-file of one row of doubles.
fn doubles(name: &str, values: &[f64]) -> Vec<u8> {
    fn element(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut element = [kind.to_le_bytes(), (content.len() as u32).to_le_bytes()].concat();
        element.extend(content);
        element.resize(element.len().next_multiple_of(8), 0);
        element
    }
    let dims = [1_u32, values.len() as u32].map(u32::to_le_bytes).concat();
    let content: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let matrix = [
        element(6, &[6_u32, 0].map(u32::to_le_bytes).concat()),
        element(5, &dims),
        element(1, name.as_bytes()),
        element(9, &content),
    ];
    let mut file = vec![b' '; 124];
    file.extend(b"\x00\x01IM");
    file.extend(element(14, &matrix.concat()));
    file
}

#[test]
fn a_fractional_label_in_a_mat_file_is_rejected_with_file_and_row() {
    for (label, expected) in
        [(f64::NAN, "NaN is not"), (f64::INFINITY, "inf is not"), (1e300, "is not"), (3.7, "3.7 is not")]
    {
        let mut labels = [1.0; 8];
        labels[4] = label;
        let message = message_after("oxford_flowers", "flowers", |root| {
            fs::write(root.join("imagelabels.mat"), doubles("labels", &labels)).unwrap();
        });
        assert!(message.contains("imagelabels.mat:5: `labels`: ") && message.contains(expected), "{message}");
        assert!(message.ends_with("is not a whole number"), "{message}");
    }
}

#[test]
fn a_fractional_image_number_is_rejected_with_file_and_row() {
    let message = message_after("oxford_flowers", "flowers", |root| {
        fs::write(root.join("setid.mat"), doubles("trnid", &[1.0, 2.5])).unwrap();
    });
    assert!(message.contains("setid.mat:2: `trnid`: 2.5 is not a whole number"), "{message}");
}

#[test]
fn an_invalid_digit_is_rejected_and_not_reduced_modulo_ten() {
    for digit in [-10.0, 13.0, 20.0] {
        let message = message_after("svhn", "svhn", |root| {
            let pixels = fs::read(root.join("test_32x32.mat")).unwrap();
            // Readers use the first variable with a given name.
            let labels = doubles("y", &[1.0, 10.0, digit]);
            fs::write(root.join("test_32x32.mat"), [&labels[..], &pixels[128..]].concat()).unwrap();
        });
        let expected = format!("test_32x32.mat:3: {digit} is not a valid label for 10 classes");
        assert!(message.contains(&expected), "{message}");
    }
}

#[test]
fn a_negative_sprite_factor_is_rejected_with_file_and_row() {
    const NPZ: &str = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz";
    let message = message_after("dsprites_location", "dsprites", |root| {
        let mut factors = vec![[0; 6]; DSPRITES];
        factors[2][4] = -7;
        write_factors(&root.join(NPZ), [DSPRITES, 6], &factors);
    });
    assert!(message.contains(&format!("{NPZ}:3: the factor -7 is negative")), "{message}");
}

/// Number of images in the dSprites fixture.
const DSPRITES: usize = 64;

#[test]
fn an_odd_azimuth_is_rejected_with_file_and_row() {
    const INFO: &str = "smallnorb-5x01235x9x18x6x2x96x96-testing-info.mat";
    for azimuth in [-1_i32, 3] {
        let message = message_after("smallnorb_azimuth", "smallnorb", |root| {
            let mut info = fs::read(root.join(INFO)).unwrap();
            // A header of 20 bytes, then rows of four integers: instance, elevation, azimuth, lighting.
            info[20 + 16 + 8..][..4].copy_from_slice(&azimuth.to_le_bytes());
            fs::write(root.join(INFO), info).unwrap();
        });
        assert!(message.contains(&format!("{INFO}:2: the azimuth {azimuth} is odd")), "{message}");
    }
}

#[test]
fn a_distance_that_is_not_a_number_is_rejected_with_file_and_line() {
    use common::write_text;
    use data_loaders::{ImageSet, dataset};
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("kitti_distance");
    write_text(&folder, "training/image_2/000000.png", "");
    write_text(&folder, "mapping/train_mapping.txt", "2011_09_26 a 0\n");
    write_text(&folder, "mapping/train_rand.txt", "1");
    for z in ["nan", "inf"] {
        let line = format!("Car 0 0 -1.6 587 173 614 200 1.6 1.7 3.6 -0.7 1.7 {z} -1.6\n");
        write_text(&folder, "training/label_2/000000.txt", &line);
        let rejection = ImageSet::open(dataset("kitti_distance").unwrap(), root.path()).err().unwrap();
        assert!(rejection.to_string().contains("000000.txt:1: expected 15 fields"), "{rejection}");
    }
}

#[test]
fn a_bird_in_neither_the_training_nor_the_test_split_is_rejected() {
    use common::{entry, write_text};
    use data_loaders::{DatasetEntry, ImageSet};
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("birds");
    write_text(&folder, "images/x.jpg", "");
    write_text(&folder, "images.txt", "1 a/0.jpg\n2 b/1.jpg\n");
    write_text(&folder, "image_class_labels.txt", "1 1\n2 2\n");
    write_text(&folder, "train_test_split.txt", "1 1\n2 7\n");
    let entry = DatasetEntry { classes: 2, ..entry("cub_200_2011", "birds") };
    let rejection = ImageSet::open(&entry, root.path()).err().unwrap().to_string();
    assert!(rejection.contains("images.txt:2: train_test_split.txt has the value 7"), "{rejection}");
}
