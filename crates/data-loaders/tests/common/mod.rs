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
