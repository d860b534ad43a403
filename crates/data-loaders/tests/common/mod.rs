//! Shared by several tests: fixture paths, and images as bytes.
#![allow(dead_code, reason = "each test uses some of it")]

use std::path::{Path, PathBuf};

use data_loaders::{DatasetEntry, Filter, ImageProtocol, ImageSet, Normalisation, Resize, Split, dataset};

/// A folder of fixtures.
pub(crate) fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The images of a split as RGB bytes, row by row; `side` should be their own size.
pub(crate) fn images_of(set: &ImageSet, split: Split, side: u32) -> Vec<Vec<u8>> {
    let protocol = ImageProtocol {
        image_size: side,
        resize: Resize::Plain,
        filter: Filter::Bilinear,
        normalisation: Normalisation::None,
    };
    let mut pixels = Vec::new();
    let indices: Vec<usize> = (0..set.len(split)).collect();
    set.read(split, &indices, &protocol, &mut pixels).unwrap();
    let area = (side * side) as usize;
    let byte = |value: f32| (value * 255.0).round() as u8;
    let image = |planes: &[f32]| (0..3 * area).map(|n| byte(planes[n % 3 * area + n / 3])).collect();
    pixels.chunks(3 * area).map(image).collect()
}

/// Writes a uniform grey 8 x 8 image; the extension determines the format. The level must be a multiple of ten.
pub(crate) fn write_grey(path: &Path, level: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(8, 8, image::Rgb([level; 3])).save(path).unwrap();
}

/// The grey levels of a split, to the nearest ten, with their labels, sorted by level.
pub(crate) fn greys_of(set: &ImageSet, split: Split) -> Vec<(u8, u32)> {
    let images = images_of(set, split, 8);
    let grey = |image: &Vec<u8>| ((u16::from(image[0]) + 5) / 10 * 10) as u8;
    let mut pairs: Vec<(u8, u32)> = images.iter().map(grey).zip(set.labels(split).iter().copied()).collect();
    pairs.sort();
    pairs
}

/// Writes a text file below a folder, creating parent folders.
pub(crate) fn write_text(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// The entry of a dataset, with a different folder.
pub(crate) fn entry(set: &str, folder: &str) -> DatasetEntry {
    DatasetEntry { folder: Some(folder.to_owned()), ..dataset(set).unwrap().clone() }
}

/// Copies a fixture of an original distribution, applies `damage` and opens it; returns the error message.
pub(crate) fn message_after(set: &str, folder: &str, damage: impl FnOnce(&Path)) -> String {
    let root = tempfile::tempdir().unwrap();
    copy(&fixtures("originals").join(folder), &root.path().join(folder));
    damage(&root.path().join(folder));
    let opened = ImageSet::open(&entry(set, folder), root.path());
    opened.and_then(|set| set.check_images()).expect_err("the damage is found").to_string()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.path().is_dir() {
            copy(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).unwrap();
        }
    }
}

/// Replaces the factors of dSprites' images, with a header that claims this shape.
pub(crate) fn write_factors(path: &Path, [rows, columns]: [usize; 2], factors: &[[i64; 6]]) {
    use std::fs::File;
    use std::io::{Read, Write};
    let mut archive = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut images = Vec::new();
    archive.by_name("imgs.npy").unwrap().read_to_end(&mut images).unwrap();
    let header = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': ({rows}, {columns}), }}\n");
    let mut array = b"\x93NUMPY\x01\0".to_vec();
    array.extend((header.len() as u16).to_le_bytes());
    array.extend(header.as_bytes());
    array.extend(factors.iter().flatten().flat_map(|value| value.to_le_bytes()));
    let mut written = zip::ZipWriter::new(File::create(path).unwrap());
    for (name, content) in [("imgs.npy", images), ("latents_classes.npy", array)] {
        written.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        written.write_all(&content).unwrap();
    }
    written.finish().unwrap();
}
