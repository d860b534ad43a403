//! Preprocessing of real images compared with PIL and torchvision (tools/vision_samples.py): 200 images, JPEG and PNG,
//! grey and colour, larger and smaller than the input. The fixture has some values of each; if `SAN_PYTHON` names a
//! Python with tools/requirements.txt, all pixels are compared. 99.9 % of them must be within 1/255.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::path::{Path, PathBuf};

use common::fixtures;
use data_loaders::{CropShare, Filter, ImageProtocol, ImageSet, Normalisation, Resize, Split, dataset};

const SIDE: usize = 224;
/// Number of values per image and protocol in the fixture.
const VALUES: usize = 256;

fn protocols() -> [(&'static str, ImageProtocol); 4] {
    let timm_eval = |share| Resize::TimmEval { crop_pct: CropShare::try_from(share).unwrap() };
    let protocol = |resize, filter| ImageProtocol {
        image_size: SIDE as u32,
        resize,
        filter,
        normalisation: Normalisation::None,
    };
    [
        ("plain_bilinear", protocol(Resize::Plain, Filter::Bilinear)),
        ("plain_bicubic", protocol(Resize::Plain, Filter::Bicubic)),
        ("timm_eval_bilinear", protocol(timm_eval(0.875), Filter::Bilinear)),
        ("timm_eval_bicubic", protocol(timm_eval(0.9), Filter::Bicubic)),
    ]
}

/// The images of the fixture as a dataset on disk: one in each of the other lists, because no list may be empty, and
/// the rest in the first.
fn set_of_images(data: &Path, root: &Path) -> ImageSet {
    let folder = root.join("svhn");
    std::fs::create_dir(&folder).unwrap();
    let names = std::fs::read_to_string(fixtures("real").join("images.txt")).unwrap();
    let names: Vec<&str> = names.lines().collect();
    let mut lists = [String::new(), String::new(), String::new()];
    for (index, name) in names.iter().enumerate() {
        let ending = Path::new(name).extension().unwrap().to_str().unwrap();
        let file = format!("{index}.{ending}");
        std::fs::copy(data.join("vision").join(name), folder.join(&file)).unwrap();
        lists[(index + 3).saturating_sub(names.len())] += &format!("{file} 0\n");
    }
    for (name, text) in ["train800.txt", "val200.txt", "test.txt"].iter().zip(&lists) {
        std::fs::write(folder.join(name), text).unwrap();
    }
    std::fs::write(folder.join("train800val200.txt"), format!("{}{}", lists[0], lists[1])).unwrap();
    ImageSet::open(dataset("svhn").unwrap(), root).unwrap()
}

/// All images through a protocol as bytes, `[images, side, side, 3]`.
fn transformed(set: &ImageSet, protocol: &ImageProtocol) -> Vec<u8> {
    let mut bytes = Vec::new();
    for split in [Split::TrainVal, Split::Test] {
        for index in 0..set.len(split) {
            let mut pixels = Vec::new();
            set.read(split, &[index], protocol, &mut pixels).unwrap();
            let area = SIDE * SIDE;
            let value = |place: usize| pixels[place % 3 * area + place / 3];
            bytes.extend((0..3 * area).map(|place| (value(place) * 255.0).round() as u8));
        }
    }
    bytes
}

fn data() -> Option<PathBuf> {
    let data = std::env::var_os("SAN_DATA").map(PathBuf::from).filter(|data| data.join("vision").is_dir());
    if data.is_none() {
        skipped::report("SAN_DATA is not set, or holds no folder `vision`");
    }
    data
}

#[test]
fn real_images_are_transformed_as_in_torchvision() {
    let Some(data) = data() else { return };
    let (root, written) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let set = set_of_images(&data, root.path());
    let samples = image::open(fixtures("real").join("samples.png")).unwrap().into_luma8();
    let protocols = protocols();
    for (column, (label, protocol)) in protocols.iter().enumerate() {
        let bytes = transformed(&set, protocol);
        let (mut differing, mut values) = (0_u32, 0_u32);
        for (number, image) in bytes.chunks_exact(3 * SIDE * SIDE).enumerate() {
            for place in 0..VALUES {
                let ours = image[(place * 7919 + number * 104_729) % image.len()];
                let row = number * protocols.len() + column;
                let expected = samples.get_pixel(place as u32, row as u32).0[0];
                differing += u32::from(ours.abs_diff(expected) > 1);
                values += 1;
            }
        }
        let share = f64::from(differing) / f64::from(values);
        println!("{label}: {share:.6} of {values} values are more than 1/255 apart");
        assert!(
            values == 200 * 256 && share <= 0.001,
            "{label}: {differing} of {values} values differ by more than 1"
        );
        std::fs::write(written.path().join(format!("{label}.rgb")), bytes).unwrap();
    }
    compare_all_pixels(written.path());
}

/// Compares with PIL and torchvision themselves, if available.
fn compare_all_pixels(written: &Path) {
    let Some(python) = std::env::var_os("SAN_PYTHON") else {
        skipped::report("SAN_PYTHON is not set");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/vision_samples.py");
    let output = std::process::Command::new(python).arg(script).arg(written).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
