//! What several tests need: where fixtures lie, and images as bytes.
#![allow(dead_code, reason = "each test uses some of it")]

use std::path::{Path, PathBuf};

use data_loaders::{Filter, ImageProtocol, ImageSet, Normalisation, Resize, Split};

/// A folder of fixtures.
pub(crate) fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The images of a split as RGB bytes, row by row, at a size that should be their own.
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

/// Writes an image of one grey, 8 x 8; its format is told by the ending. The level must be a multiple of ten.
pub(crate) fn write_grey(path: &Path, level: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(8, 8, image::Rgb([level; 3])).save(path).unwrap();
}

/// The greys of a split, to the nearest ten, with their labels, in order of grey.
pub(crate) fn greys_of(set: &ImageSet, split: Split) -> Vec<(u8, u32)> {
    let images = images_of(set, split, 8);
    let grey = |image: &Vec<u8>| ((u16::from(image[0]) + 5) / 10 * 10) as u8;
    let mut pairs: Vec<(u8, u32)> = images.iter().map(grey).zip(set.labels(split).iter().copied()).collect();
    pairs.sort();
    pairs
}

/// Writes a text below a folder, making the folders on the way.
pub(crate) fn write_text(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
