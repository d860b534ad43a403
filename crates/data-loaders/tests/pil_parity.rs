//! Decoding and resizing compared with PIL's results (tools/image_fixtures.py): RGB conversion of every mode, both
//! filters, reduction and enlargement.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use data_loaders::{DatasetEntry, Filter, ImageProtocol, ImageSet, Normalisation, Resize, Split, dataset};

const CASES: [&str; 15] = [
    "rgb_larger.png",
    "rgb_smaller.png",
    "rgb_wide.png",
    "grey.png",
    "grey_alpha.png",
    "alpha.png",
    "palette.png",
    "bilevel.png",
    "grey16.png",
    "grey_alpha16.png",
    "rgb16.png",
    "alpha16.png",
    "cmyk.jpg",
    "grey_jpeg.jpg",
    "rotated.jpg",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pil").join(name)
}

/// A dataset on disk whose training images are the fixtures, so that the whole public path is tested.
fn set_of_fixtures(root: &Path) -> ImageSet {
    let entry: &DatasetEntry = dataset("svhn").unwrap();
    let folder = root.join("svhn");
    std::fs::create_dir(&folder).unwrap();
    let mut lists = [String::new(), String::new(), String::new()];
    for (index, case) in CASES.iter().enumerate() {
        std::fs::copy(fixture(case), folder.join(case)).unwrap();
        lists[(index + 3).saturating_sub(CASES.len())] += &format!("{case} 0\n");
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
        let indices: Vec<usize> = (0..CASES.len() - 1).collect();
        set.read(Split::TrainVal, &indices, &protocol, &mut pixels).unwrap();
        set.read(Split::Test, &[0], &protocol, &mut pixels).unwrap();
        let side = image_size as usize;
        for (case, planes) in CASES.iter().zip(pixels.chunks_exact(3 * side * side)) {
            let (case, _) = case.split_once('.').unwrap();
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
fn bilinear_resizing_equals_pil() {
    check(Filter::Bilinear, "bilinear");
}

#[test]
fn bicubic_resizing_equals_pil() {
    check(Filter::Bicubic, "bicubic");
}
