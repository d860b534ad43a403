//! Sets of one's own, without recompiling: folders of every kind on the command line and in an experiment, entries in
//! the folder named by `SAN_DATASETS`, and `san inspect`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{Bench, SYNTHETIC, refusal};
use report::record::Record;

const EXPERIMENT: i32 = 3;
const DATA: i32 = 4;

#[track_caller]
fn done(bench: &Bench, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = bench.run_with(arguments, variables);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn picture(path: &Path, shade: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(12, 9, image::Rgb([shade, 40, 80])).save(path).unwrap();
}

/// Two classes of ten images, a folder each.
fn classes(folder: &Path) {
    for index in 0..20_u8 {
        let class = if index < 10 { "cat" } else { "dog" };
        picture(&folder.join(format!("{class}/{index}.png")), index * 10);
    }
}

/// The same images in one folder, with a table; the first column is the path.
fn sheet(folder: &Path, split: impl Fn(u8) -> &'static str) {
    let mut text = "path,label,split\n".to_owned();
    for index in 0..20_u8 {
        picture(&folder.join(format!("images/{index}.png")), index * 10);
        text += &format!("images/{index}.png,{},{}\n", if index < 10 { "cat" } else { "dog" }, split(index));
    }
    std::fs::write(folder.join("labels.csv"), text).unwrap();
}

#[test]
fn class_folders_are_run_from_the_command_line_with_a_split_drawn_by_seed() {
    let bench = Bench::new(SYNTHETIC);
    classes(&bench.path("pets"));
    let plan = done(&bench, &["plan", "vtab.yaml", "--set", "pets"], &[]);
    assert!(plan.contains("pets") && plan.contains("own, drawn by seed"), "{plan}");
    let table = done(&bench, &["run", "vtab.yaml", "--set", "pets", "--methods", "linear"], &[]);
    assert!(table.contains("pets") && table.contains("data own, drawn by seed"), "{table}");
    let record = Record::read(&bench.runs()[0].join("record.json")).unwrap();
    assert_eq!((record.dataset.name.as_str(), record.dataset.classes), ("pets", 2));
    assert_eq!((record.dataset.train, record.dataset.test), (18, 2));
    assert_eq!(record.dataset.source.as_deref(), Some("own, drawn by seed"));
}

#[test]
fn a_table_with_a_split_is_named_in_an_experiment() {
    let text = SYNTHETIC
        .replace("{synthetic: {train: 24, val: 12, test: 30}}", "{folder: mine}")
        .replace("patch_camelyon", "my_animals");
    let bench = Bench::new(&text);
    sheet(&bench.path("mine"), |index| ["train", "train", "val", "test"][usize::from(index % 4)]);
    let plan = done(&bench, &["plan", "vtab.yaml"], &[]);
    assert!(plan.contains("my_animals") && plan.contains("own split"), "{plan}");
    sheet(&bench.path("mine"), |index| if index == 3 { "tset" } else { "train" });
    let said = refusal(&bench.run(&["plan", "vtab.yaml"]), DATA);
    assert!(said.contains("labels.csv:5: the split `tset` is not one of train, val, test"), "{said}");
    let two = text.replace("[my_animals]", "[my_animals, others]");
    std::fs::write(bench.path("vtab.yaml"), two).unwrap();
    let said = refusal(&bench.run(&["plan", "vtab.yaml"]), EXPERIMENT);
    assert!(said.contains("`sets` must have one name"), "{said}");
}

#[test]
fn inspect_prints_classes_counts_and_sizes_and_shows_ten_images() {
    let bench = Bench::new(SYNTHETIC);
    classes(&bench.path("pets"));
    let said = done(&bench, &["inspect", "pets"], &[]);
    for part in
        ["pets: class folders, 2 classes", "16 / 2 / 2 images", "own, drawn by seed", "cat", "dog", "12x9"]
    {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
    let sheet = image::open(bench.path("pets.png")).unwrap().to_rgb8();
    assert_eq!(sheet.dimensions(), (5 * 160, 2 * 160));
    assert_eq!(sheet.get_pixel(10, 10)[1], 40);
    std::fs::create_dir(bench.path("empty")).unwrap();
    let said = refusal(&bench.run(&["inspect", "empty"]), DATA);
    assert!(said.contains("no supported layout") && said.contains("CSV"), "{said}");
}

#[test]
fn every_kind_of_folder_is_told_apart() {
    let bench = Bench::new(SYNTHETIC);
    let inspect = |name: &str| done(&bench, &["inspect", name], &[]);
    let parts = bench.path("parts");
    for (part, from) in [("train", 0_u8), ("test", 6)] {
        for index in from..from + 6 {
            picture(
                &parts.join(part).join(["a", "b"][usize::from(index % 2)]).join(format!("{index}.png")),
                index,
            );
        }
    }
    let said = inspect("parts");
    assert!(said.contains("class folders by part, 2 classes") && said.contains("5 / 1 / 6"), "{said}");
    let lists = bench.path("lists");
    for index in 0..9_u8 {
        picture(&lists.join(format!("images/{index}.png")), index);
    }
    for (list, range) in [("train800", 0..4), ("val200", 4..6), ("train800val200", 0..6), ("test", 6..9)] {
        let text: String = range.map(|index: u8| format!("images/{index}.png {}\n", index % 3)).collect();
        std::fs::write(lists.join(format!("{list}.txt")), text).unwrap();
    }
    let said = inspect("lists");
    assert!(said.contains("VTAB-1k lists, 3 classes") && said.contains("4 / 2 / 3 images"), "{said}");
    assert!(said.contains("(own split)"), "{said}");
    let vpt = bench.path("vpt");
    for index in 0..6_u8 {
        picture(&vpt.join(format!("images/{index}.png")), index);
    }
    for (list, text) in [
        ("train", r#"{"0.png": 5, "1.png": 9}"#),
        ("val", r#"{"2.png": 9, "3.png": 5}"#),
        ("test", r#"{"4.png": 5, "5.png": 9}"#),
    ] {
        std::fs::write(vpt.join(format!("{list}.json")), text).unwrap();
    }
    assert!(inspect("vpt").contains("VPT lists, 2 classes"));
    let tables =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../data-loaders/tests/fixtures/originals/tables");
    let said = inspect(tables.to_str().unwrap());
    assert!(said.contains("Parquet tables, 100 classes") && said.contains("20x20"), "{said}");
}

#[test]
fn an_entry_of_ones_own_is_read_from_the_folder_that_san_datasets_names() {
    let text = SYNTHETIC
        .replace("{synthetic: {train: 24, val: 12, test: 30}}", "{files: mine}")
        .replace("patch_camelyon", "beans");
    let bench = Bench::new(&text);
    let entry = "name: beans\ntitle: Beans\nsuite: own\nofficial: false\ngroup: general\norder: 0\nclasses: 2\n\
        class_names: [cat, dog]\nmetric: accuracy\nlicence: MIT\ncitation: ours\nmanual: ours\n";
    std::fs::create_dir(bench.path("entries")).unwrap();
    std::fs::write(bench.path("entries/beans.yaml"), entry).unwrap();
    sheet(&bench.path("data/mine/beans"), |_| "");
    let variables = [("SAN_DATASETS", "entries")];
    let said = refusal(&bench.run(&["plan", "vtab.yaml"]), DATA);
    assert!(said.contains("`beans`"), "{said}");
    let plan = done(&bench, &["plan", "vtab.yaml"], &variables);
    assert!(plan.contains("beans") && plan.contains("own, drawn by seed"), "{plan}");
    assert!(done(&bench, &["datasets"], &variables).contains("beans"));
    for (old, new, word) in [
        ("name: beans", "name: svhn", "the name of the entry is `svhn`"),
        ("official: false", "official: true", "`official`"),
        ("licence:", "license:", "license"),
    ] {
        std::fs::write(bench.path("entries/beans.yaml"), entry.replace(old, new)).unwrap();
        let said = refusal(&bench.run_with(&["plan", "vtab.yaml"], &variables), DATA);
        assert!(said.contains(word), "{said}");
    }
}
