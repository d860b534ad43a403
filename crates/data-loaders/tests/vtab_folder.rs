//! The on-disk layout of VTAB-1k: a valid folder is read back, and each fault is one sentence that names its location.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::fs;
use std::path::Path;

use data_loaders::{
    DataError, DatasetEntry, Filter, ImageProtocol, ImageSet, Normalisation, Resize, Split, SplitCounts,
    dataset,
};
use image::{Rgb, RgbImage};
use tempfile::TempDir;

const PROTOCOL: ImageProtocol = ImageProtocol {
    image_size: 8,
    resize: Resize::Plain,
    filter: Filter::Bilinear,
    normalisation: Normalisation::None,
};

/// A dataset `svhn` of 4 + 2 + 3 images; image n is grey of level 20 n and has the label n.
fn folder() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("svhn/images");
    fs::create_dir_all(&images).unwrap();
    for (name, range) in
        [("train800.txt", 0..4), ("val200.txt", 4..6), ("test.txt", 6..9), ("train800val200.txt", 0..6)]
    {
        let lines: String = range.map(|index| format!("images/{index}.png {index}\n")).collect();
        fs::write(root.path().join("svhn").join(name), lines).unwrap();
    }
    for index in 0..9 {
        RgbImage::from_pixel(8, 8, Rgb([index * 20; 3])).save(images.join(format!("{index}.png"))).unwrap();
    }
    root
}

fn open(root: &Path) -> Result<ImageSet, DataError> {
    ImageSet::open(dataset("svhn").unwrap(), root)
}

/// Changes the line `old` of a list to `new` (and of the union, to keep them consistent), then opens; returns the
/// message.
fn message_with_line(old: &str, new: &str) -> String {
    let root = folder();
    for list in ["train800.txt", "val200.txt", "test.txt", "train800val200.txt"] {
        let path = root.path().join("svhn").join(list);
        let text = fs::read_to_string(&path).unwrap().replace(old, new);
        fs::write(path, text).unwrap();
    }
    open(root.path()).err().expect("the fault is found").to_string()
}

fn assert_names(message: &str, parts: &[&str]) {
    assert!(!message.contains('\n'));
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn a_folder_is_read_with_its_splits_labels_and_pixels() {
    let root = folder();
    let set = open(root.path()).unwrap();
    set.check_images().unwrap();
    assert_eq!((set.name(), set.classes(), set.is_synthetic()), ("svhn", 10, false));
    assert_eq!(set.labels(Split::TrainVal), [0, 1, 2, 3, 4, 5]);
    assert_eq!(set.labels(Split::Test), [6, 7, 8]);
    let mut pixels = vec![9.0];
    set.read(Split::TrainVal, &[5, 0, 3], &PROTOCOL, &mut pixels).unwrap();
    assert_eq!(pixels.len(), 1 + 3 * 3 * 64);
    for (image, level) in pixels[1..].chunks(3 * 64).zip([100.0, 0.0, 60.0]) {
        assert!(image.iter().all(|value| (value * 255.0 - level).abs() < 1e-3));
    }
    assert!(!set.has_official_split_sizes());
}

#[test]
fn the_checksum_depends_on_every_image_byte_and_every_label() {
    let root = folder();
    let before = open(root.path()).unwrap().checksum().to_owned();
    assert_eq!(open(root.path()).unwrap().checksum(), before);
    let test = root.path().join("svhn/test.txt");
    fs::write(&test, fs::read_to_string(&test).unwrap().replace("7.png 7", "7.png 8")).unwrap();
    let relabelled = open(root.path()).unwrap().checksum().to_owned();
    RgbImage::from_pixel(8, 8, Rgb([1; 3])).save(root.path().join("svhn/images/2.png")).unwrap();
    let repainted = open(root.path()).unwrap().checksum().to_owned();
    assert!(before != relabelled && relabelled != repainted && before != repainted);
}

#[test]
fn a_missing_folder_is_reported() {
    let root = tempfile::tempdir().unwrap();
    assert_names(&open(root.path()).err().unwrap().to_string(), &["svhn: the folder", "does not exist"]);
}

#[test]
fn a_missing_list_is_reported() {
    let root = folder();
    fs::remove_file(root.path().join("svhn/val200.txt")).unwrap();
    assert_names(&open(root.path()).err().unwrap().to_string(), &["svhn", "val200.txt does not exist"]);
}

#[test]
fn an_empty_list_is_reported() {
    let root = folder();
    fs::write(root.path().join("svhn/test.txt"), "\n").unwrap();
    assert_names(&open(root.path()).err().unwrap().to_string(), &["svhn", "test.txt is empty"]);
}

#[test]
fn a_malformed_line_is_reported() {
    assert_names(&message_with_line("images/2.png 2", "images/2.png"), &["train800.txt:3:", "images/2.png"]);
    assert_names(&message_with_line("images/2.png 2", "images/2.png two"), &["train800.txt:3:", "two"]);
    assert_names(&message_with_line("images/2.png 2", "images/2.png -1"), &["train800.txt:3:", "-1"]);
}

#[test]
fn a_label_out_of_range_is_reported() {
    assert_names(&message_with_line("7.png 7", "7.png 10"), &["test.txt:2:", "label 10", "10 classes"]);
}

#[test]
fn a_path_outside_the_folder_is_reported() {
    assert_names(&message_with_line("images/4.png", "../4.png"), &["val200.txt:1:", "`../4.png`", "outside"]);
    assert_names(&message_with_line("images/4.png", "/etc/passwd"), &["val200.txt:1:", "`/etc/passwd`"]);
}

#[test]
fn a_missing_image_is_reported() {
    let root = folder();
    fs::remove_file(root.path().join("svhn/images/8.png")).unwrap();
    assert_names(&open(root.path()).err().unwrap().to_string(), &["test.txt:3:", "8.png does not exist"]);
}

#[test]
fn an_image_in_two_splits_is_reported() {
    assert_names(
        &message_with_line("images/7.png 7", "images/1.png 1"),
        &["test.txt:2:", "1.png", "train800.txt"],
    );
}

#[test]
fn the_union_list_may_have_any_order_but_must_have_the_same_rows() {
    let root = folder();
    let union = root.path().join("svhn/train800val200.txt");
    let text = fs::read_to_string(&union).unwrap();
    let reversed: Vec<&str> = text.lines().rev().collect();
    fs::write(&union, reversed.join("\n")).unwrap();
    assert_eq!(open(root.path()).unwrap().labels(Split::TrainVal), [0, 1, 2, 3, 4, 5]);
    fs::write(&union, text.replace("5.png 5", "5.png 4")).unwrap();
    assert_names(
        &open(root.path()).err().unwrap().to_string(),
        &["train800val200.txt:6: the row is not in train800.txt or val200.txt"],
    );
    fs::write(&union, text.replace("images/2.png 2\n", "")).unwrap();
    assert_names(
        &open(root.path()).err().unwrap().to_string(),
        &["train800.txt:3: the row is not in train800val200.txt"],
    );
}

/// The entry of SVHN, with the sizes of the folder's lists as those of the benchmark.
fn of_these_sizes() -> DatasetEntry {
    let splits = Some(SplitCounts { train: 4, val: 2, test: 3 });
    DatasetEntry { splits, ..dataset("svhn").unwrap().clone() }
}

#[test]
fn the_benchmark_is_named_only_for_its_own_lists() {
    let root = folder();
    let label = |entry: &DatasetEntry| ImageSet::open(entry, root.path()).unwrap().split_label();
    assert_eq!(label(&of_these_sizes()), "VTAB-1k");
    assert_eq!(label(dataset("svhn").unwrap()), "VTAB-1k style");
}

#[test]
fn val_is_drawn_where_a_copy_has_no_list_of_it() {
    let root = folder();
    for list in ["train800.txt", "val200.txt"] {
        fs::remove_file(root.path().join("svhn").join(list)).unwrap();
    }
    let set = ImageSet::open(&of_these_sizes(), root.path()).unwrap();
    assert_eq!((set.len(Split::Train), set.len(Split::Val)), (4, 2));
    let mut labels = set.labels(Split::TrainVal).to_vec();
    labels.sort_unstable();
    assert_eq!((labels, set.labels(Split::Test)), (vec![0, 1, 2, 3, 4, 5], &[6, 7, 8][..]));
    assert_eq!(set.split_label(), "VTAB-1k, val drawn");
    assert_eq!(ImageSet::open(&of_these_sizes(), root.path()).unwrap().checksum(), set.checksum());
}

#[test]
fn a_set_is_found_under_the_names_of_the_published_archive() {
    let root = folder();
    let rename = |from: &str, to: &str| {
        fs::create_dir_all(root.path().join(to).parent().unwrap()).unwrap();
        fs::rename(root.path().join(from), root.path().join(to)).unwrap();
    };
    let entry = DatasetEntry { other_folders: vec!["digits".into()], ..of_these_sizes() };
    let mut last = "svhn";
    for folder in ["digits", "vtab-1k/svhn", "vtab-1k/digits"] {
        rename(last, folder);
        last = folder;
        assert_eq!(ImageSet::open(&entry, root.path()).unwrap().len(Split::Test), 3, "{folder}");
    }
    fs::create_dir(root.path().join("svhn")).unwrap();
    let message = ImageSet::open(&entry, root.path()).err().unwrap().to_string();
    assert_names(&message, &["only one of these folders", "/svhn, ", "vtab-1k/digits"]);
}

#[test]
fn a_truncated_image_is_reported_and_the_batch_is_unchanged() {
    let root = folder();
    let path = root.path().join("svhn/images/3.png");
    let picture = RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]));
    picture.save_with_format(&path, image::ImageFormat::Jpeg).unwrap();
    open(root.path()).unwrap().check_images().unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let set = open(root.path()).unwrap();
    assert_names(&set.check_images().unwrap_err().to_string(), &["svhn", "3.png", "truncated"]);
    let mut pixels = vec![1.0];
    let message = set.read(Split::Train, &[0, 3], &PROTOCOL, &mut pixels).unwrap_err().to_string();
    assert_names(&message, &["3.png", "cannot be decoded"]);
    assert_eq!(pixels, [1.0]);
}

#[test]
fn a_file_that_is_not_an_image_is_reported() {
    let root = folder();
    fs::write(root.path().join("svhn/images/0.png"), "nothing to see").unwrap();
    assert_names(
        &open(root.path()).unwrap().check_images().unwrap_err().to_string(),
        &["0.png", "known format"],
    );
}

#[test]
fn an_index_beyond_the_split_is_reported() {
    let root = folder();
    let message = open(root.path()).unwrap().read(Split::Val, &[2], &PROTOCOL, &mut Vec::new()).unwrap_err();
    assert_names(&message.to_string(), &["sample 2", "val split", "2 samples"]);
}

#[test]
fn the_five_real_data_sets_open_and_give_a_batch_if_san_data_is_set() {
    let Some(data) = std::env::var_os("SAN_DATA") else {
        skipped::report("SAN_DATA is not set");
        return;
    };
    let protocol = ImageProtocol { image_size: 32, normalisation: Normalisation::Imagenet, ..PROTOCOL };
    for (name, train) in
        [("cifar100", 800), ("caltech101", 800), ("dtd10", 480), ("rsscn7", 800), ("mednist", 800)]
    {
        let set = ImageSet::open(dataset(name).unwrap(), &Path::new(&data).join("vision/vtab")).unwrap();
        assert_eq!(set.len(Split::Train), train);
        assert!(!set.has_official_split_sizes(), "these lists are our own");
        let mut pixels = Vec::new();
        set.read(Split::Val, &[0, 7, 50], &protocol, &mut pixels).unwrap();
        assert_eq!(pixels.len(), 3 * 3 * 32 * 32);
        assert!(pixels.iter().all(|value| value.abs() < 3.0));
    }
}
