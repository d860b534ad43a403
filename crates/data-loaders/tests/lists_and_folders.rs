//! Layouts of text lists and folders: tiny faithful copies of original distributions, VPT's lists, class folders, real
//! data.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::fs;
use std::path::Path;

use common::{greys_of, write_grey, write_text};
use data_loaders::{ClassNames, DatasetEntry, ImageSet, PoolCounts, Split, SplitOrigin, dataset};
use tempfile::TempDir;

/// A registry entry with fewer classes, and the counts of an equally small original.
fn small(set: &str, classes: u32) -> DatasetEntry {
    let mut entry = dataset(set).unwrap().clone();
    entry.classes = classes;
    entry.class_names = ClassNames::Rule("of a test".into());
    entry
}

fn folder(entry: &DatasetEntry) -> (TempDir, std::path::PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(entry.folder());
    fs::create_dir(&folder).unwrap();
    (root, folder)
}

fn all(set: &ImageSet) -> Vec<(u8, u32)> {
    let mut pairs: Vec<_> =
        [Split::TrainVal, Split::Test].iter().flat_map(|split| greys_of(set, *split)).collect();
    pairs.sort();
    pairs
}

fn message(entry: &DatasetEntry, root: &Path) -> String {
    let opened = ImageSet::open(entry, root).and_then(|set| set.check_images());
    opened.expect_err("the fault is found").to_string()
}

#[test]
fn dtd_is_split_by_its_lists_and_labelled_alphabetically() {
    let entry = small("dtd", 3);
    let (root, folder) = folder(&entry);
    for (part, rows) in [
        ("train", ["banded/b1", "woven/w1"]),
        ("val", ["dotted/d1", "banded/b2"]),
        ("test", ["woven/w2", "dotted/d2"]),
    ] {
        let lines: String = rows.iter().map(|row| format!("{row}.jpg\n")).collect();
        write_text(&folder, &format!("dtd/labels/{part}1.txt"), &lines);
    }
    for (level, name) in
        ["banded/b1", "woven/w1", "dotted/d1", "banded/b2", "woven/w2", "dotted/d2"].iter().enumerate()
    {
        write_grey(&folder.join(format!("dtd/images/{name}.jpg")), level as u8 * 20);
    }
    let set = ImageSet::open(&entry, root.path()).unwrap();
    assert_eq!(greys_of(&set, Split::Train), [(0, 0), (20, 2)]);
    assert_eq!(greys_of(&set, Split::Val), [(40, 1), (60, 0)]);
    assert_eq!(greys_of(&set, Split::Test), [(80, 2), (100, 1)]);
    write_text(&folder, "dtd/labels/val1.txt", "dotted/d1.jpg\nstriped/s1.jpg\n");
    assert!(message(&entry, root.path()).contains("val1.txt:2: `striped/s1.jpg` is not in a class folder"));
}

#[test]
fn sun397_uses_class_name_for_labels_and_the_lists_of_tensorflow_datasets_for_splits() {
    let entry = small("sun397", 3);
    let (root, folder) = folder(&entry);
    write_text(&folder, "SUN397/ClassName.txt", "/a/abbey\n/a/apartment_building/outdoor\n/b/bar\n");
    let images = ["a/abbey/x1", "a/apartment_building/outdoor/x2", "b/bar/x3", "b/bar/x4"];
    for (level, name) in images.iter().enumerate() {
        write_grey(&folder.join(format!("SUN397/{name}.jpg")), level as u8 * 20);
    }
    write_text(&folder, "sun397_tfds_tr.txt", "/b/bar/x3.jpg\n");
    write_text(&folder, "sun397_tfds_va.txt", "/a/abbey/x1.jpg\n");
    write_text(&folder, "sun397_tfds_te.txt", "/b/bar/x4.jpg\n/a/apartment_building/outdoor/x2.jpg\n");
    let set = ImageSet::open(&entry, root.path()).unwrap();
    assert_eq!(all(&set), [(0, 0), (20, 1), (40, 2), (60, 2)]);
    assert_eq!(greys_of(&set, Split::Val), [(0, 0)]);
    assert_eq!(greys_of(&set, Split::Test), [(20, 1), (60, 2)]);
}

#[test]
fn pets_are_read_from_annotations() {
    let entry = small("oxford_iiit_pet", 2);
    let (root, folder) = folder(&entry);
    write_text(&folder, "annotations/trainval.txt", "Abyssinian_100 1 1 1\nbeagle_1 2 2 1\n");
    write_text(&folder, "annotations/test.txt", "beagle_2 2 2 1\n");
    for (level, name) in ["Abyssinian_100", "beagle_1", "beagle_2"].iter().enumerate() {
        write_grey(&folder.join(format!("images/{name}.jpg")), level as u8 * 20);
    }
    let set = ImageSet::open(&entry, root.path()).unwrap();
    assert_eq!(all(&set), [(0, 0), (20, 1), (40, 1)]);
    write_text(&folder, "annotations/test.txt", "beagle_2 3 2 1\n");
    assert!(message(&entry, root.path()).contains("test.txt:1: 3 is not a valid label for 2 classes"));
    write_text(&folder, "annotations/test.txt", "../beagle_2 2 2 1\n");
    assert!(message(&entry, root.path()).contains("points outside the folder"));
}

/// The three lists of both bird datasets.
fn birds(entry: &DatasetEntry, ids: [&str; 4], classes: [u32; 4]) -> (TempDir, ImageSet) {
    let (root, folder) = folder(entry);
    let (mut images, mut labels, mut split) = (String::new(), String::new(), String::new());
    for (level, (id, class)) in ids.iter().zip(classes).enumerate() {
        images += &format!("{id} {class:03}.Bird/{level}.jpg\n");
        labels += &format!("{id} {class}\n");
        split += &format!("{id} {}\n", u8::from(level % 2 == 0));
        write_grey(&folder.join(format!("sub/images/{class:03}.Bird/{level}.jpg")), level as u8 * 20);
    }
    write_text(&folder, "sub/images.txt", &images);
    write_text(&folder, "sub/image_class_labels.txt", &labels);
    write_text(&folder, "sub/train_test_split.txt", &split);
    let set = ImageSet::open(entry, root.path()).unwrap();
    (root, set)
}

#[test]
fn cub_and_nabirds_are_read_from_their_three_lists() {
    let (_root, set) = birds(&small("cub_200_2011", 2), ["1", "2", "3", "4"], [1, 2, 2, 1]);
    assert_eq!(all(&set), [(0, 0), (20, 1), (40, 1), (60, 0)]);
    assert_eq!(greys_of(&set, Split::Test), [(20, 1), (60, 0)]);
    let (_root, set) = birds(&small("nabirds", 3), ["0a-b", "0b-c", "0c-d", "0d-e"], [295, 817, 1010, 295]);
    assert_eq!(all(&set), [(0, 0), (20, 1), (40, 2), (60, 0)], "class ids have gaps");
}

#[test]
fn retinopathy_uses_public_rows_for_val_and_private_rows_for_test() {
    let entry = small("diabetic_retinopathy", 5);
    let (root, folder) = folder(&entry);
    write_text(&folder, "trainLabels.csv", "image,level\n10_left,0\n10_right,4\n");
    write_text(
        &folder,
        "retinopathy_solution.csv",
        "image,level,Usage\n1_left,2,Private\n1_right,3,Public\n",
    );
    for (level, name) in ["train/10_left", "train/10_right", "test/1_left", "test/1_right"].iter().enumerate()
    {
        write_grey(&folder.join(format!("{name}.jpeg")), level as u8 * 20);
    }
    let set = ImageSet::open(&entry, root.path()).unwrap();
    assert_eq!(greys_of(&set, Split::Train), [(0, 0), (20, 4)]);
    assert_eq!(greys_of(&set, Split::Val), [(60, 3)]);
    assert_eq!(greys_of(&set, Split::Test), [(40, 2)]);
    write_text(&folder, "trainLabels.csv", "image,level\n10_left,0\n10_right,bad\n");
    assert!(message(&entry, root.path()).contains("trainLabels.csv:3: "));
}

fn clevr_scenes(part: &str, scenes: &[&[f64]]) -> String {
    let scene = |(index, depths): (usize, &&[f64])| {
        let object = |depth: &f64| format!(r#"{{"shape": "cube", "pixel_coords": [120, 80, {depth}]}}"#);
        let objects: Vec<String> = depths.iter().map(object).collect();
        format!(
            r#"{{"image_index": {index}, "image_filename": "CLEVR_{part}_{index:06}.png", "objects": [{}]}}"#,
            objects.join(",")
        )
    };
    let scenes: Vec<String> = scenes.iter().enumerate().map(scene).collect();
    format!(r#"{{"info": {{"split": "{part}"}}, "scenes": [{}]}}"#, scenes.join(",\n"))
}

#[test]
fn clevr_scenes_are_counted_and_binned_as_in_vtab() {
    let train: [&[f64]; 2] = [&[11.0, 9.2, 12.0], &[8.2, 10.1, 9.9, 13.0]];
    let val: [&[f64]; 2] = [&[7.5; 10], &[10.5, 12.0, 11.0]];
    for (set, expected) in [
        ("clevr_count", [(0, 0), (20, 1), (40, 7), (60, 0)]),
        ("clevr_distance", [(0, 3), (20, 1), (40, 0), (60, 5)]),
    ] {
        let entry = dataset(set).unwrap();
        let (root, folder) = folder(entry);
        for (part, scenes, first) in [("train", &train, 0_u8), ("val", &val, 2)] {
            write_text(
                &folder,
                &format!("CLEVR_v1.0/scenes/CLEVR_{part}_scenes.json"),
                &clevr_scenes(part, scenes),
            );
            for index in 0..2_u8 {
                let image = format!("CLEVR_v1.0/images/{part}/CLEVR_{part}_{index:06}.png");
                write_grey(&folder.join(image), (first + index) * 20);
            }
        }
        let set = ImageSet::open(entry, root.path()).unwrap();
        assert_eq!(all(&set), expected);
        assert_eq!(greys_of(&set, Split::Test), expected[2..]);
    }
}

#[test]
fn kitti_is_labelled_by_the_closest_vehicle_and_divided_by_drive() {
    let entry = small("kitti_distance", 4);
    let (root, folder) = folder(&entry);
    let object = |kind: &str, z: f64| {
        format!("{kind} 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 {z} -1.59\n")
    };
    let scenes = [
        object("Car", 46.7) + &object("Van", 7.9) + &object("DontCare", -1000.0),
        object("Truck", 12.5) + &object("Pedestrian", 3.0),
        object("Car", 30.0),
        object("Cyclist", 5.0),
    ];
    for (index, text) in scenes.iter().enumerate() {
        write_text(&folder, &format!("training/label_2/{index:06}.txt"), text);
        write_grey(&folder.join(format!("training/image_2/{index:06}.png")), index as u8 * 20);
    }
    // np.random.seed(123); np.random.choice(["a", "b", "c"], 1, replace=False) is a; np.random.choice(["b", "c"], 1,
    // replace=False) is c.
    let frames = ["a 7", "c 2", "b 1", "c 9"].map(|frame| format!("2011_09_26 {frame}\n")).concat();
    write_text(&folder, "mapping/train_mapping.txt", &frames);
    write_text(&folder, "mapping/train_rand.txt", "3,1,4,2\n");
    let set = ImageSet::open(&entry, root.path()).unwrap();
    assert_eq!(greys_of(&set, Split::Test), [(20, 1)]);
    assert_eq!(greys_of(&set, Split::Val), [(40, 2), (60, 3)]);
    assert_eq!(greys_of(&set, Split::Train), [(0, 0)]);
    write_text(&folder, "mapping/train_rand.txt", "3,1,5,2\n");
    assert!(message(&entry, root.path()).contains("train_rand.txt: number 2, `5`, is not that of a frame"));
    write_text(&folder, "mapping/train_rand.txt", "3,1,4\n");
    assert!(message(&entry, root.path()).contains("has no number for this image"));
    fs::remove_dir_all(folder.join("mapping")).unwrap();
    assert!(message(&entry, root.path()).contains("train_mapping.txt: it does not exist"));
    write_text(&folder, "mapping/train_mapping.txt", &frames);
    write_text(&folder, "mapping/train_rand.txt", "3,1,4,2\n");
    write_text(&folder, "training/label_2/000002.txt", "Car 0.00\n");
    assert!(message(&entry, root.path()).contains("000002.txt:1: expected 15 fields"));
}

#[test]
fn class_folders_without_splits_are_split_by_seed() {
    let mut entry = small("eurosat", 2);
    entry.original.as_mut().unwrap().counts = PoolCounts { train: 27000, val: 0, test: 0 };
    let (root, folder) = folder(&entry);
    for level in 0..10_u8 {
        let class = if level < 5 { "Forest" } else { "River" };
        write_grey(&folder.join(format!("2750/{class}/{class}_{level}.jpg")), level * 20);
    }
    let set = ImageSet::open(&entry, root.path()).unwrap();
    assert_eq!(all(&set), (0..10).map(|level| (level * 20, u32::from(level >= 5))).collect::<Vec<_>>());
    assert_eq!((set.len(Split::TrainVal), set.len(Split::Test)), (8, 2));
    let again = ImageSet::open(&entry, root.path()).unwrap();
    assert_eq!(set.checksum(), again.checksum());
    assert_eq!(set.split_origin(), SplitOrigin::Seeded);
    fs::remove_dir_all(folder.join("2750/River")).unwrap();
    assert!(message(&entry, root.path()).contains("it has 1 class folders, but the data set has 2 classes"));
}

fn gic(root: &Path) -> DatasetEntry {
    let entry = small("gic_cifar100", 2);
    for (part, count) in [("train", 10_u8), ("test", 4)] {
        for index in 0..count {
            let class = if index % 2 == 0 { "apple" } else { "bear" };
            let level = index * 10 + if part == "test" { 150 } else { 0 };
            write_grey(&root.join(format!("cifar100/{part}/{class}/{index}.png")), level);
        }
    }
    entry
}

#[test]
fn class_folders_without_val_get_a_stratified_val_split() {
    let root = tempfile::tempdir().unwrap();
    let entry = gic(root.path());
    let set = ImageSet::open(&entry, root.path()).unwrap();
    assert_eq!((set.len(Split::Train), set.len(Split::Val), set.len(Split::Test)), (9, 1, 4));
    assert_eq!(greys_of(&set, Split::Test), [(150, 0), (160, 1), (170, 0), (180, 1)]);
    assert_eq!(set.split_origin().label(entry.suite), "GIC style");
}

#[test]
fn a_file_with_a_wrong_extension_and_an_empty_class_are_reported() {
    let root = tempfile::tempdir().unwrap();
    let entry = gic(root.path());
    write_text(root.path(), "cifar100/train/apple/notes.txt", "hello");
    assert!(message(&entry, root.path()).contains("notes.txt: its extension is not that of an image"));
    fs::remove_dir_all(root.path().join("cifar100/test/bear")).unwrap();
    fs::create_dir(root.path().join("cifar100/test/bear")).unwrap();
    fs::remove_file(root.path().join("cifar100/train/apple/notes.txt")).unwrap();
    assert!(message(&entry, root.path()).contains("bear: the class has no image"));
}

/// VPT's lists with ids 3, 8 and 5 for three classes.
fn vpt() -> (TempDir, DatasetEntry) {
    let entry = small("stanford_cars", 3);
    let (root, folder) = folder(&entry);
    write_text(
        &folder,
        "train.json",
        "{\n\"cars_train/0.jpg\": 3,\n\"cars_train/1.jpg\": 8,\n\"cars_train/2.jpg\": 5\n}\n",
    );
    write_text(&folder, "val.json", "{\"cars_train/3.jpg\": 5}");
    write_text(&folder, "test.json", "{\"cars_test/4.jpg\": 8, \"cars_test/5.jpg\": 3}");
    for level in 0..6_u8 {
        let part = if level < 4 { "train" } else { "test" };
        write_grey(&folder.join(format!("cars_{part}/{level}.jpg")), level * 20);
    }
    (root, entry)
}

#[test]
fn vpt_labels_are_ranks_among_the_training_ids() {
    let (root, entry) = vpt();
    let set = ImageSet::open(&entry, root.path()).unwrap();
    assert_eq!(greys_of(&set, Split::Train), [(0, 0), (20, 2), (40, 1)]);
    assert_eq!(greys_of(&set, Split::Val), [(60, 1)]);
    assert_eq!(greys_of(&set, Split::Test), [(80, 2), (100, 0)]);
    assert_eq!(set.split_origin(), SplitOrigin::OwnLists);
    assert_eq!(set.split_origin().label(entry.suite), "VPT style");
}

#[test]
fn faults_in_vpt_lists_are_reported_with_their_line() {
    let (root, entry) = vpt();
    let train = root.path().join("stanford_cars/train.json");
    let text = fs::read_to_string(&train).unwrap();
    let with = |old: &str, new: &str| {
        fs::write(&train, text.replace(old, new)).unwrap();
        message(&entry, root.path())
    };
    assert!(with("2.jpg\": 5", "2.jpg\": \"five\"").contains("train.json:4: "));
    assert!(with("train/2.jpg", "train/9.jpg").contains("train.json:4: the image"));
    assert!(with("train/2.jpg", "../../2.jpg").contains("train.json:4: the path"));
    assert!(with("train/2.jpg", "train/1.jpg").contains("train.json:4: the image"), "a repeated path");
    assert!(with(": 5", ": 8").contains("it lists 2 classes, but the data set has 3"));
    assert!(
        with("\n}", "").contains("train.json:4: ") || with("\n}", "").contains("train.json:5: "),
        "half a list"
    );
    fs::write(&train, &text).unwrap();
    write_text(root.path(), "stanford_cars/val.json", "{\"cars_train/3.jpg\": 4}");
    assert!(message(&entry, root.path()).contains("val.json:1: the class id 4 is not in train.json"));
}

#[test]
fn a_folder_without_a_known_layout_is_reported_with_the_expected_layouts() {
    let entry = dataset("svhn").unwrap();
    let (root, _folder) = folder(entry);
    let message = message(entry, root.path());
    for layout in ["train800.txt", "train.json", "train/<class>/", "parquet", "train_32x32.mat"] {
        assert!(message.contains(layout), "{message}");
    }
}

#[test]
fn real_cars_and_full_cifar_open_if_san_data_is_set() {
    let Some(data) = std::env::var_os("SAN_DATA") else {
        skipped::report("SAN_DATA is not set");
        return;
    };
    let vision = Path::new(&data).join("vision");
    let cars = ImageSet::open(dataset("stanford_cars").unwrap(), &vision.join("fgvc")).unwrap();
    assert_eq!((cars.len(Split::Train), cars.len(Split::Val), cars.len(Split::Test)), (1568, 392, 784));
    assert_eq!(cars.labels(Split::Test).iter().max(), Some(&195));
    assert_eq!(cars.split_origin().label(cars.entry().suite), "VPT style");
    let cifar = ImageSet::open(dataset("gic_cifar100").unwrap(), &vision.join("gic")).unwrap();
    assert_eq!((cifar.len(Split::Train), cifar.len(Split::Val), cifar.len(Split::Test)), (3600, 400, 1000));
}
