//! Datasets with an empty part, and files that are endless or of unbounded size: rejected by name, before they are
//! read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{entry, fixtures, message_after, write_grey, write_text};
use data_loaders::text::{RowLimits, TextSet, TextSource};
use data_loaders::vl::{Answers, QuestionSet, QuestionSource};
use data_loaders::{DatasetEntry, ImageSet, dataset, verify};
use serde_json::json;

#[test]
fn an_image_data_set_with_an_empty_split_is_rejected_by_verify_and_open() {
    for (file, part) in [("train.bin", "train"), ("test.bin", "test")] {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cifar");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["train.bin", "test.bin"] {
            std::fs::copy(fixtures("originals/cifar_binary/cifar-100-binary").join(name), folder.join(name))
                .unwrap();
        }
        std::fs::write(folder.join(file), "").unwrap();
        let entry = entry("gic_cifar100", "cifar");
        let expected = format!("gic_cifar100: its {part} split is empty");
        let verified = verify(&entry, root.path()).err().map(|error| error.to_string());
        assert!(verified.as_ref().is_some_and(|error| error.starts_with(&expected)), "{part}: {verified:?}");
        let opened = ImageSet::open(&entry, root.path()).err().map(|error| error.to_string());
        assert_eq!(opened, verified);
    }
}

#[test]
fn a_single_training_image_leaves_no_validation_split_and_is_rejected() {
    let root = tempfile::tempdir().unwrap();
    let entry = DatasetEntry { classes: 2, ..entry("oxford_iiit_pet", "pets") };
    let folder = root.path().join("pets");
    write_text(&folder, "annotations/trainval.txt", "a_1 1 1 1\n");
    write_text(&folder, "annotations/test.txt", "b_1 2 2 1\n");
    write_grey(&folder.join("images/a_1.jpg"), 0);
    write_grey(&folder.join("images/b_1.jpg"), 10);
    let rejection = verify(&entry, root.path()).err().unwrap().to_string();
    assert!(rejection.starts_with("oxford_iiit_pet: its val split is empty"), "{rejection}");
}

#[test]
fn a_text_data_set_with_an_empty_split_is_rejected() {
    let root = tempfile::tempdir().unwrap();
    let row = json!({"instruction": "is it\n\nAnswer format: true/false", "input": "",
        "output": "the correct answer is true", "answer": "true"});
    let rows = json!([row, row, row]).to_string();
    write_text(root.path(), "boolq/test.json", &rows);
    write_text(root.path(), "ft-training_set/some.json", &rows);
    for (train, test, part) in [(0, 1, "train"), (1, 0, "test")] {
        let at_most = Some(RowLimits { train, test });
        let source = TextSource { training_file: "some".into(), val_rows: 1, val_seed: 0, at_most };
        let rejection = TextSet::open(dataset("boolq").unwrap(), root.path(), &source).err();
        let rejection = rejection.map(|error| error.to_string()).unwrap_or_default();
        assert!(rejection.starts_with(&format!("boolq: its {part} split is empty")), "{rejection}");
    }
}

/// easy-VQA with this many questions in its two parts.
fn easy_vqa(root: &Path, [train, test]: [usize; 2]) {
    let folder = root.join("easy_vqa");
    for (part, count) in [("train", train), ("test", test)] {
        let questions: Vec<_> = (0..count).map(|_| json!(["What is it?", "circle", 0])).collect();
        write_text(&folder, &format!("{part}/questions.json"), &json!(questions).to_string());
        write_grey(&folder.join(part).join("images/0.png"), 10);
    }
}

fn questions(root: &Path, at_most: Option<RowLimits>) -> Result<QuestionSet, String> {
    let (answers, mixture) = (Answers::Local, Vec::new());
    let source = QuestionSource { answers, mixture, val_questions: 0, seed: 0, at_most };
    QuestionSet::open(dataset("easy_vqa").unwrap(), root, &source, &data_loaders::FileHashes::default())
        .map_err(|error| error.to_string())
}

#[test]
fn a_question_data_set_with_an_empty_split_is_rejected() {
    for (counts, at_most, part) in [
        ([0, 2], None, "train"),
        ([2, 0], None, "test"),
        ([2, 2], Some(RowLimits { train: 0, test: 1 }), "train"),
        ([2, 2], Some(RowLimits { train: 1, test: 0 }), "test"),
    ] {
        let root = tempfile::tempdir().unwrap();
        easy_vqa(root.path(), counts);
        let rejection = questions(root.path(), at_most).err().unwrap_or_default();
        assert!(
            rejection.starts_with(&format!("easy_vqa: its {part} split is empty")),
            "{part}: {rejection}"
        );
    }
}

/// The dataset `svhn` with nine images, one of which is replaced by something else.
fn with_image(replace: impl FnOnce(&Path)) -> String {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("svhn");
    for (list, range) in [("train800", 0..4), ("val200", 4..6), ("test", 6..9), ("train800val200", 0..6)] {
        let lines: String = range.map(|index| format!("images/{index}.png {index}\n")).collect();
        write_text(&folder, &format!("{list}.txt"), &lines);
    }
    (0..9).for_each(|index| write_grey(&folder.join(format!("images/{index}.png")), index * 10));
    let image = folder.join("images/7.png");
    std::fs::remove_file(&image).unwrap();
    replace(&image);
    let started = Instant::now();
    let found = verify(dataset("svhn").unwrap(), root.path()).unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "it was read");
    assert_eq!(found.faults.len(), 1);
    found.faults[0].to_string()
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_pipe_among_images_is_rejected_without_blocking() {
    let message = with_image(pipe);
    assert!(message.contains("7.png") && message.contains("not a regular file"), "{message}");
}

#[test]
fn a_device_among_images_is_rejected_without_reading_it() {
    let message = with_image(|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap());
    assert!(message.contains("7.png") && message.contains("not a regular file"), "{message}");
}

/// A sparse file of twenty gigabytes, which takes no disk space.
fn sparse(path: &Path) {
    File::create(path).unwrap().set_len(20 << 30).unwrap();
}

#[test]
fn an_image_file_of_twenty_gigabytes_is_rejected_by_its_size() {
    let message = with_image(sparse);
    assert!(message.contains("7.png") && message.contains("it has 21474836480 bytes"), "{message}");
}

#[test]
fn an_endless_or_too_large_list_or_container_is_rejected() {
    for (set, folder, file) in [
        ("svhn", "svhn", "test_32x32.mat"),
        ("gic_cifar100", "cifar_binary", "cifar-100-binary/test.bin"),
        ("gic_cifar100", "cifar_python", "cifar-100-python/test"),
        ("smallnorb_azimuth", "smallnorb", "smallnorb-5x01235x9x18x6x2x96x96-testing-info.mat"),
    ] {
        let message = message_after(set, folder, |root| sparse(&root.join(file)));
        assert!(message.contains(file) && message.contains("at most"), "{message}");
        let message = message_after(set, folder, |root| {
            std::fs::remove_file(root.join(file)).unwrap();
            pipe(&root.join(file));
        });
        assert!(message.contains(file), "{message}");
    }
}

/// A MAT-file of `variables` compressed variables, each of a million zero bytes as `i8`.
fn bomb(variables: usize) -> Vec<u8> {
    use std::io::Write;
    const SIZE: u32 = 1 << 20;
    let tag = |kind: u32, length: u32| [kind.to_le_bytes(), length.to_le_bytes()].concat();
    let mut matrix = tag(14, 8 + 8 + 8 + 8 + 8 + 8 + SIZE);
    for (kind, content) in [(6, [9_u32, 0]), (5, [1, SIZE])] {
        matrix.extend(tag(kind, 8));
        matrix.extend(content.map(u32::to_le_bytes).concat());
    }
    matrix.extend([1, 0, 1, 0, b'a', 0, 0, 0]);
    matrix.extend(tag(1, SIZE));
    matrix.resize(matrix.len() + SIZE as usize, 0);
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&matrix).unwrap();
    let compressed = encoder.finish().unwrap();
    let mut file = vec![b' '; 124];
    file.extend(b"\x00\x01IM");
    for _ in 0..variables {
        file.extend(tag(15, compressed.len() as u32));
        file.extend(&compressed);
    }
    file
}

#[test]
fn the_total_unpacked_size_of_a_mat_file_is_bounded() {
    let bytes = bomb(64);
    assert!(bytes.len() < 1 << 17, "it is small: {}", bytes.len());
    let message = message_after("oxford_flowers", "flowers", |root| {
        std::fs::write(root.join("imagelabels.mat"), &bytes).unwrap();
    });
    assert!(message.contains("imagelabels.mat") && message.contains("unpack to more than"), "{message}");
}

#[test]
fn an_npz_array_is_read_only_if_its_shape_matches_the_images() {
    const NPZ: &str = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz";
    let message = message_after("dsprites_location", "dsprites", |root| {
        common::write_factors(&root.join(NPZ), [1 << 20, 6], &[]);
    });
    let expected = "latents_classes.npy: its shape is [1048576, 6], not [64, 6]";
    assert!(message.contains(NPZ) && message.contains(expected), "{message}");
    let message = message_after("dsprites_location", "dsprites", |root| {
        common::write_factors(&root.join(NPZ), [64, 6], &[[0; 6]; 65]);
    });
    assert!(message.contains(NPZ) && message.contains("it does not contain exactly 384 values"), "{message}");
}
