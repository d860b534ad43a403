//! Test inputs: dataset files to replace, and byte readers, each with valid inputs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};

use crate::registry::parse_dataset;
use crate::sources::formats::pickle::Pickle;
use crate::sources::formats::{mat5, norb, npz, tfrecord};
use crate::transform::decode::decode;

/// Where the other files of a dataset come from.
pub(super) enum Tree {
    /// A test fixture, by its folder.
    Fixture(&'static str),
    /// Paths and their text contents.
    Texts(&'static [(&'static str, &'static str)]),
}

/// A file of a dataset on disk that is replaced.
pub(super) struct Case {
    pub(super) set: &'static str,
    /// `None` for the dataset's own number of classes.
    pub(super) classes: Option<u32>,
    pub(super) file: &'static str,
    pub(super) tree: Tree,
}

const fn fixture(set: &'static str, folder: &'static str, file: &'static str) -> Case {
    Case { set, classes: None, file, tree: Tree::Fixture(folder) }
}

const fn texts(
    set: &'static str,
    classes: u32,
    file: &'static str,
    tree: &'static [(&'static str, &'static str)],
) -> Case {
    Case { set, classes: Some(classes), file, tree: Tree::Texts(tree) }
}

const VTAB: &[(&str, &str)] = &[
    ("train800.txt", "images/0.png 0\nimages/1.png 1\n"),
    ("val200.txt", "images/2.png 1\n"),
    ("train800val200.txt", "images/0.png 0\nimages/1.png 1\nimages/2.png 1\n"),
    ("test.txt", "images/3.png 0\nimages/4.png 1\n"),
];
const VPT: &[(&str, &str)] = &[
    ("train.json", "{\"a/0.jpg\": 3,\n\"a/1.jpg\": 8}\n"),
    ("val.json", "{\"a/2.jpg\": 8}"),
    ("test.json", "{\"a/3.jpg\": 3,\n \"a/4.jpg\": 8}"),
];
const DTD: &[(&str, &str)] = &[
    ("images/banded/b0.jpg", ""),
    ("images/woven/w0.jpg", ""),
    ("labels/train1.txt", "banded/b0.jpg\nwoven/w0.jpg\n"),
    ("labels/val1.txt", "banded/b1.jpg\n"),
    ("labels/test1.txt", "woven/w1.jpg\n"),
];
const SUN: &[(&str, &str)] = &[
    ("a/abbey/x1.jpg", ""),
    ("ClassName.txt", "/a/abbey\n/b/bar\n"),
    ("sun397_tfds_tr.txt", "/b/bar/x3.jpg\n/a/abbey/x1.jpg\n"),
    ("sun397_tfds_va.txt", "/b/bar/x2.jpg\n"),
    ("sun397_tfds_te.txt", "/b/bar/x4.jpg\n"),
];
const PETS: &[(&str, &str)] = &[
    ("images/x.jpg", ""),
    ("annotations/trainval.txt", "Abyssinian_100 1 1 1\nbeagle_1 2 2 1\n"),
    ("annotations/test.txt", "beagle_2 2 2 1\n"),
];
const BIRDS: &[(&str, &str)] = &[
    ("images/x.jpg", ""),
    ("images.txt", "1 001.A/0.jpg\n2 002.B/1.jpg\n3 002.B/2.jpg\n"),
    ("image_class_labels.txt", "1 1\n2 2\n3 2\n"),
    ("train_test_split.txt", "1 1\n2 0\n3 1\n"),
];
const RETINOPATHY: &[(&str, &str)] = &[
    ("train/x.jpeg", ""),
    ("test/x.jpeg", ""),
    ("trainLabels.csv", "image,level\n10_left,0\n10_right,4\n"),
    ("retinopathy_solution.csv", "image,level,Usage\n1_left,2,Private\n1_right,3,Public\n"),
];
const KITTI: &[(&str, &str)] = &[
    ("training/image_2/000000.png", ""),
    (
        "training/label_2/000000.txt",
        "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n",
    ),
    ("training/label_2/000001.txt", ""),
    ("training/label_2/000002.txt", ""),
    ("mapping/train_mapping.txt", "2011_09_26 a 0\n2011_09_26 b 0\n2011_09_26 c 0\n"),
    ("mapping/train_rand.txt", "2,3,1"),
];
const CLEVR: &[(&str, &str)] = &[
    ("images/train/x.png", ""),
    ("images/val/x.png", ""),
    (
        "scenes/CLEVR_train_scenes.json",
        r#"{"scenes": [{"image_filename": "x.png", "objects": [{"pixel_coords": [1, 2, 11.5]},
            {"pixel_coords": [1, 2, 9.1]}, {"pixel_coords": [1, 2, 8.0]}]},
            {"image_filename": "y.png", "objects": [{"pixel_coords": [0, 0, 1]},
            {"pixel_coords": [0, 0, 1]}, {"pixel_coords": [0, 0, 1]}]}]}"#,
    ),
    (
        "scenes/CLEVR_val_scenes.json",
        r#"{"scenes": [{"image_filename": "x.png", "objects": [{"pixel_coords": [0, 0, 1]},
            {"pixel_coords": [0, 0, 1]}, {"pixel_coords": [0, 0, 1]}]}]}"#,
    ),
];

/// Files read by the dataset readers.
pub(super) const CASES: &[Case] = &[
    texts("svhn", 2, "test.txt", VTAB),
    texts("svhn", 2, "train800val200.txt", VTAB),
    texts("stanford_cars", 2, "train.json", VPT),
    texts("stanford_cars", 2, "test.json", VPT),
    texts("dtd", 2, "labels/train1.txt", DTD),
    texts("sun397", 2, "ClassName.txt", SUN),
    texts("sun397", 2, "sun397_tfds_tr.txt", SUN),
    texts("oxford_iiit_pet", 2, "annotations/trainval.txt", PETS),
    texts("cub_200_2011", 2, "images.txt", BIRDS),
    texts("cub_200_2011", 2, "image_class_labels.txt", BIRDS),
    texts("nabirds", 2, "train_test_split.txt", BIRDS),
    texts("diabetic_retinopathy", 5, "trainLabels.csv", RETINOPATHY),
    texts("diabetic_retinopathy", 5, "retinopathy_solution.csv", RETINOPATHY),
    texts("kitti_distance", 4, "training/label_2/000000.txt", KITTI),
    texts("kitti_distance", 4, "mapping/train_mapping.txt", KITTI),
    texts("kitti_distance", 4, "mapping/train_rand.txt", KITTI),
    texts("clevr_count", 8, "scenes/CLEVR_train_scenes.json", CLEVR),
    texts("clevr_distance", 6, "scenes/CLEVR_train_scenes.json", CLEVR),
    fixture("svhn", "svhn", "test_32x32.mat"),
    fixture("oxford_flowers", "flowers", "imagelabels.mat"),
    fixture("oxford_flowers", "flowers", "setid.mat"),
    fixture("stanford_dogs", "stanford_dogs", "train_list.mat"),
    fixture("stanford_cars", "stanford_cars", "devkit/cars_train_annos.mat"),
    fixture("gic_cifar100", "cifar_binary", "cifar-100-binary/test.bin"),
    fixture("gic_cifar100", "cifar_python", "cifar-100-python/test"),
    fixture("gic_cifar100", "tables", "data/train-00000-of-00002.parquet"),
    fixture("eurosat", "hub_eurosat", "data/train-00000-of-00001.parquet"),
    fixture("dmlab", "dmlab", "dmlab-validation.tfrecord-00000-of-00001"),
    fixture("patch_camelyon", "patch_camelyon", "camelyonpatch_level_2_split_test_y.h5"),
    fixture("patch_camelyon", "patch_camelyon", "camelyonpatch_level_2_split_test_x.h5"),
    fixture("dsprites_location", "dsprites", "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"),
    fixture("smallnorb_azimuth", "smallnorb", "smallnorb-5x01235x9x18x6x2x96x96-testing-dat.mat"),
    fixture("smallnorb_elevation", "smallnorb", "smallnorb-5x01235x9x18x6x2x96x96-testing-info.mat"),
];

/// Byte readers with valid inputs; a reader returns whether it accepted the bytes.
pub(super) type Plain = (&'static str, fn(&[u8]) -> bool, fn() -> io::Result<Vec<u8>>);

pub(super) const PLAIN: &[Plain] = &[
    ("a MAT-file", |bytes| mat5::parse(bytes).is_ok(), || stored("flowers/setid.mat")),
    ("a pickle", pickle, || stored("cifar_python/cifar-100-python/test")),
    ("an npy header", |mut bytes| npz::header(&mut bytes).is_ok(), || Ok(npy())),
    ("a tf.train.Example", |bytes| tfrecord::is_example(bytes), example),
    ("a NORB header", |bytes| norb::header(bytes).is_ok(), || Ok(NORB.to_vec())),
    ("a NORB matrix", |bytes| norb::integers(bytes).is_ok(), || Ok(NORB.to_vec())),
    ("an image: JPEG", image, || stored("stanford_cars/cars_test/00001.jpg")),
    ("an image: CMYK JPEG", image, || stored("../pil/cmyk.jpg")),
    ("an image: PNG", image, || encoded(ImageFormat::Png)),
    ("an image: BMP", image, || encoded(ImageFormat::Bmp)),
    ("an image: GIF", image, || encoded(ImageFormat::Gif)),
    ("an image: TIFF", image, || encoded(ImageFormat::Tiff)),
    ("an image: WebP", image, || encoded(ImageFormat::WebP)),
    ("a registry entry", registry_entry, || Ok(include_bytes!("../../../../datasets/svhn.yaml").to_vec())),
];

/// Archives, with names that determine their type.
pub(super) const ARCHIVES: [&str; 4] = ["a.tar", "a.tar.gz", "a.zip", "a.gz"];

/// Two by two 32-bit integers; the third size is a filler.
const NORB: &[u8] = b"\x54\x4C\x3D\x1E\x02\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\0\0\x07\0\0\0\x09\0\0\0";

fn npy() -> Vec<u8> {
    let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 64, 64), }      \n";
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// The message of a record, without its length and checksums, which would hide what the parser does with damage.
fn example() -> io::Result<Vec<u8>> {
    let bytes = stored("dmlab/dmlab-validation.tfrecord-00000-of-00001")?;
    let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length) as usize);
    Ok(bytes.get(12..12 + length).unwrap_or_default().to_vec())
}

fn pickle(bytes: &[u8]) -> bool {
    let Ok(pickle) = Pickle::parse(bytes) else { return false };
    pickle.integers("fine_labels").is_some() && pickle.array("data").is_some()
}

fn image(bytes: &[u8]) -> bool {
    decode(bytes).is_ok()
}

/// An image encoded in a format.
fn encoded(format: ImageFormat) -> io::Result<Vec<u8>> {
    let picture = RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, (x ^ y) as u8]));
    let mut bytes = io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).map_err(io::Error::other)?;
    Ok(bytes.into_inner())
}

fn registry_entry(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| parse_dataset("svhn.yaml", text).is_ok())
}

pub(super) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/originals")
}

fn stored(name: &str) -> io::Result<Vec<u8>> {
    fs::read(fixtures().join(name))
}
