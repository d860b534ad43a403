//! Decoding and resizing against PIL's own results (tools/image_fixtures.py): RGB conversion of every mode, both
//! filters, reduction and enlargement.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use data_loaders::{DatasetEntry, Filter, ImageProtocol, ImageSet, Normalisation, Resize, Split, dataset};

const CASES: [&str; 8] =
    ["rgb_larger", "rgb_smaller", "rgb_wide", "grey", "grey_alpha", "alpha", "palette", "bilevel"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pil").join(name)
}

/// A set on disk whose training images are the fixtures, so that the whole public path is tested.
fn set_of_fixtures(root: &Path) -> ImageSet {
    let entry: &DatasetEntry = dataset("svhn").unwrap();
    let folder = root.join("svhn");
    std::fs::create_dir(&folder).unwrap();
    let mut lists = [String::new(), String::new(), String::new()];
    for (index, case) in CASES.iter().enumerate() {
        std::fs::copy(fixture(&format!("{case}.png")), folder.join(format!("{case}.png"))).unwrap();
        lists[[0, 0, 0, 0, 0, 0, 1, 2][index]] += &format!("{case}.png 0\n");
    }
    for (name, text) in ["train800.txt", "val200.txt", "test.txt"].iter().zip(&lists) {
        std::fs::write(folder.join(name), text).unwrap();
    }
    std::fs::write(folder.join("train800val200.txt"), format!("{}{}", lists[0], lists[1])).unwrap();
    ImageSet::open(entry, root).unwrap()
}

fn check(filter: Filter, label: &str) {
    let root = tempfile::tempdir().unwrap();
    let set = set_of_fixtures(root.path());
    for image_size in [24, 32, 50] {
        let protocol =
            ImageProtocol { image_size, resize: Resize::Plain, filter, normalisation: Normalisation::None };
        let mut pixels = Vec::new();
        set.read(Split::TrainVal, &[0, 1, 2, 3, 4, 5, 6], &protocol, &mut pixels).unwrap();
        set.read(Split::Test, &[0], &protocol, &mut pixels).unwrap();
        let side = image_size as usize;
        for (case, planes) in CASES.iter().zip(pixels.chunks_exact(3 * side * side)) {
            let expected =
                image::open(fixture(&format!("{case}.{label}.{image_size}.png"))).unwrap().into_rgb8();
            let (mut off_by_one, mut worst) = (0, 0);
            for (x, y, pixel) in expected.enumerate_pixels() {
                for channel in 0..3 {
                    let ours =
                        (planes[(channel * side + y as usize) * side + x as usize] * 255.0).round() as i32;
                    let difference = (ours - i32::from(pixel[channel])).abs();
                    worst = worst.max(difference);
                    off_by_one += i32::from(difference > 1);
                }
            }
            let share = f64::from(off_by_one) / (3 * side * side) as f64;
            assert!(
                share <= 0.001,
                "{case} {label} {side}: {share:.4} of the values differ by more than 1, worst {worst}"
            );
        }
    }
}

#[test]
fn bilinear_resizing_is_pils() {
    check(Filter::Bilinear, "bilinear");
}

#[test]
fn bicubic_resizing_is_pils() {
    check(Filter::Bicubic, "bicubic");
}
