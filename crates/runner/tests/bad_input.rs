//! Bad input of every kind: one clear sentence that names the cause, a specific exit code, no panic, and nothing lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use common::{Bench, SYNTHETIC, refusal};
use tch::{Device, Kind, Tensor};

const EXPERIMENT: i32 = 3;
const DATA: i32 = 4;
const WEIGHTS: i32 = 5;
const WRITE: i32 = 6;

/// Runs everything and expects an error message that contains each of `culprits`.
#[track_caller]
fn refused(bench: &Bench, code: i32, culprits: &[&str]) {
    let text = refusal(&bench.run_all(), code);
    for culprit in culprits {
        assert!(text.contains(culprit), "no {culprit} in: {text}");
    }
    assert!(bench.runs().is_empty());
}

#[test]
fn a_missing_folder_is_named() {
    let bench = Bench::on_files("vit_micro");
    std::fs::remove_dir_all(bench.path("data/mednist")).unwrap();
    refused(&bench, DATA, &["mednist"]);
}

#[test]
fn a_truncated_jpeg_is_named_before_anything_is_trained() {
    let bench = Bench::on_files("vit_micro");
    cut(&bench.path("data/mednist/images/13.jpg"));
    refused(&bench, DATA, &["mednist", "13.jpg"]);
}

/// The header of a bitmap that declares 10,000 x 10,000 pixels, and nothing after it.
fn bomb() -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    let size = 10_000_u32;
    for number in [54 + 3 * size * size, 0, 54, 40, size, size, 24 << 16 | 1, 0, 0, 0, 0, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes
}

#[test]
fn every_kind_of_damage_is_named_with_set_file_and_line_before_anything_is_trained() {
    type Harm = fn(&std::path::Path);
    let harms: [(&str, Harm, [&str; 2]); 7] = [
        (
            "half an image",
            |image| cut(image),
            ["test.txt:2: ", "13.jpg cannot be decoded: the JPEG data is truncated"],
        ),
        (
            "an empty image",
            |image| std::fs::write(image, "").unwrap(),
            ["test.txt:2: ", "13.jpg cannot be decoded"],
        ),
        (
            "a text that calls itself an image",
            |image| std::fs::write(image, "text").unwrap(),
            ["test.txt:2: ", "13.jpg"],
        ),
        (
            "an image of 100 megapixels",
            |image| std::fs::write(image, bomb()).unwrap(),
            ["test.txt:2: ", "claims 10000 x 10000 pixels"],
        ),
        (
            "a missing image",
            |image| std::fs::remove_file(image).unwrap(),
            ["test.txt:2: ", "13.jpg does not exist"],
        ),
        (
            "a word for a label",
            |image| relist(image, "13.jpg 1", "13.jpg one"),
            ["test.txt:2: ", "13.jpg one"],
        ),
        (
            "an image that is listed twice",
            |image| relist(image, "13.jpg 1", "12.jpg 0"),
            ["test.txt:2: ", "is already listed in"],
        ),
    ];
    for (what, harm, culprits) in harms {
        println!("{what}");
        let bench = Bench::on_files("vit_micro");
        harm(&bench.path("data/mednist/images/13.jpg"));
        refused(&bench, DATA, &["mednist: ", culprits[0], culprits[1]]);
    }
}

fn cut(path: &std::path::Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

/// Changes the list of test images that belongs to an image.
fn relist(image: &std::path::Path, old: &str, new: &str) {
    let list = image.parent().unwrap().with_file_name("test.txt");
    let text = std::fs::read_to_string(&list).unwrap();
    assert!(text.contains(old));
    std::fs::write(list, text.replace(old, new)).unwrap();
}

#[test]
fn a_label_out_of_range_is_named_with_its_line() {
    let bench = Bench::on_files("vit_micro");
    std::fs::write(bench.path("data/mednist/test.txt"), "images/0.jpg 1\nimages/1.jpg 6\n").unwrap();
    refused(&bench, DATA, &["mednist", "test.txt", "2", "6"]);
}

#[test]
fn an_empty_list_is_named() {
    let bench = Bench::on_files("vit_micro");
    std::fs::write(bench.path("data/mednist/val200.txt"), "").unwrap();
    refused(&bench, DATA, &["val200.txt"]);
}

fn with_weights(write: impl FnOnce(&std::path::Path)) -> Bench {
    let name = "vit_tiny_patch16_224.augreg_in21k";
    let bench = Bench::on_files(name);
    let folder = bench.path("weights").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    write(&folder.join("model.safetensors"));
    bench
}

fn write_weights(path: &std::path::Path, name: &str, shape: &[i64]) {
    let tensor = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    san_core::io::safetensors::write_tensors(path, [(name, &tensor)], ("k", String::new()), Kind::Float)
        .unwrap();
}

#[test]
fn a_missing_tensor_is_named() {
    let bench = with_weights(|path| write_weights(path, "cls_token", &[1, 1, 192]));
    refused(&bench, WEIGHTS, &["pos_embed", "model.safetensors"]);
}

#[test]
fn a_tensor_of_wrong_shape_is_named_with_both_shapes() {
    let bench = with_weights(|path| write_weights(path, "cls_token", &[1, 1, 191]));
    refused(&bench, WEIGHTS, &["cls_token", "[1, 1, 191]", "[1, 1, 192]"]);
}

#[test]
fn a_pickle_given_as_weights_is_refused_with_the_conversion() {
    let bench = with_weights(|path| std::fs::write(path, b"PK\x03\x04archive/data.pkl").unwrap());
    refused(&bench, WEIGHTS, &["model.safetensors", "pickle", "python tools/convert_weights.py"]);
}

#[test]
fn missing_weights_are_named() {
    refused(&Bench::on_files("vit_tiny_patch16_224.augreg_in21k"), WEIGHTS, &["vit_tiny", "weights"]);
}

#[test]
fn an_unknown_field_is_named() {
    let bench = Bench::new(&SYNTHETIC.replace("batch_size: 16", "batch_size: 16\n      batchsize: 3"));
    refused(&bench, EXPERIMENT, &["vtab.yaml", "batchsize"]);
}

#[test]
fn an_impossible_plan_is_refused_before_anything_runs() {
    for (right, wrong, culprit) in [
        ("name: vtab", "name: ../escape", "../escape"),
        ("train: 24", "train: 0", "train"),
        ("image_size: 32", "image_size: 33", "33 px"),
        ("seeds: [0, 1]", "seeds: [0, 0]", "seed 0"),
        ("[vit_micro]", "[vit_micro, vit_micro]", "vit_micro"),
        ("learning_rate: 1.0e-2", "learning_rate: .nan", "linear"),
        ("warmup_epochs: 1", "warmup_epochs: 2", "warmup_epochs"),
    ] {
        refused(&Bench::new(&SYNTHETIC.replace(right, wrong)), EXPERIMENT, &[culprit]);
    }
}

#[test]
fn an_unknown_method_is_answered_with_the_nearest() {
    let bench = Bench::new(&SYNTHETIC.replace("method: san", "method: sann"));
    refused(&bench, EXPERIMENT, &["`sann`", "`san`"]);
}

#[test]
fn an_unknown_option_of_a_method_is_named() {
    let bench = Bench::new(&SYNTHETIC.replace("{method: san,", "{method: san, options: {wirring: full},"));
    refused(&bench, EXPERIMENT, &["san", "wirring"]);
}

#[test]
fn an_unknown_set_backbone_and_profile_are_named() {
    let bench = Bench::new(SYNTHETIC);
    for (arguments, code, culprit) in [
        (["--sets", "cifar10"], EXPERIMENT, "cifar10"),
        (["--backbone", "vit_mico"], EXPERIMENT, "vit_micro"),
        (["--profile", "papers"], EXPERIMENT, "papers"),
    ] {
        let text = refusal(&bench.run(&[&["run", "vtab.yaml"], &arguments[..]].concat()), code);
        assert!(text.contains(culprit), "{text}");
    }
}

#[test]
fn a_results_folder_that_cannot_be_written_is_named() {
    let bench = Bench::new(SYNTHETIC);
    // Root may write to any folder except /proc; a file in the way stops every user.
    std::fs::write(bench.path("taken"), "").unwrap();
    for folder in ["/proc/results", "taken"] {
        let text = refusal(&bench.run(&["run", "vtab.yaml", "--results", folder]), WRITE);
        assert!(text.contains(folder), "{text}");
    }
}

#[test]
fn a_full_disk_loses_no_finished_run() {
    let bench = Bench::new(SYNTHETIC);
    let disk = bench.path("results");
    std::fs::create_dir(&disk).unwrap();
    let mount = |size: &str, flag: &str| {
        let options = format!("{flag}size={size}");
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&disk)
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    if !mount("60k", "") {
        skipped::report("no small disk can be mounted here");
        return;
    }
    let text = refusal(&bench.run(&["run", "vtab.yaml", "--workers", "1"]), WRITE);
    assert!(text.contains("No space left"), "{text}");
    let finished = bench.runs();
    let stamp =
        |path: &std::path::PathBuf| std::fs::metadata(path.join("record.json")).unwrap().modified().unwrap();
    let before: Vec<_> = finished.iter().map(stamp).collect();
    assert!(mount("10m", "remount,"));
    let again = bench.run_all();
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(bench.runs().len(), 6);
    let after: Vec<_> = finished.iter().map(stamp).collect();
    assert_eq!(before, after, "a finished run was run again");
    let _ = std::process::Command::new("umount").args(["-l"]).arg(&disk).status();
}

#[test]
fn a_method_that_does_not_fit_a_backbone_is_refused_at_planning_with_the_reason() {
    for (backbone, method, options, reason) in [
        ("convnext_micro", "vpt", "{}", "one token sequence"),
        ("convnext_micro", "lora", "{targets: [q, v]}", "no projection of the roles q, v"),
        ("convnext_micro", "lora", "{targets: [dwconv]}", "depthwise convolution"),
        ("vit_micro", "san_lora", "{wiring: authors}", "no projection has an anterior"),
        ("vit_micro", "lora", "{targets: [kwery]}", "list of roles"),
        ("vit_micro", "lora", "{init: pissa, rank: 999}", "`rank`"),
    ] {
        let method = format!("{{method: {method}, learning_rate: 1.0e-2, options: {options}}}");
        let text = SYNTHETIC
            .replace("vit_micro", backbone)
            .replace("{method: linear, learning_rate: 1.0e-2}", &method);
        let bench = Bench::new(&text);
        let said = refusal(&bench.run(&["plan", "vtab.yaml"]), EXPERIMENT);
        assert!(said.contains(reason), "{said}");
    }
}

/// Runs `san datasets --markdown` with the given standard output.
fn print_to(output: std::process::Stdio) -> std::process::Child {
    std::process::Command::new(env!("CARGO_BIN_EXE_san"))
        .args(["datasets", "--markdown"])
        .stdout(output)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_closed_pipe_is_not_an_error_and_a_full_disk_is() {
    let mut child = print_to(std::process::Stdio::piped());
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");

    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = print_to(full.into()).wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("standard output"), "{text}");
}

#[test]
fn a_pretraining_whose_output_cannot_be_written_is_refused_at_the_start() {
    let bench = Bench::new(SYNTHETIC);
    let steps = ["pretrain", "vit_micro", "--steps", "1000000", "--output"];
    let said = refusal(&bench.run(&[&steps[..], &["nowhere/file"]].concat()), 6);
    assert!(said.contains("nowhere/file"), "{said}");
    let said = refusal(&bench.run(&[&steps[..], &["file", "--from", "absent"]].concat()), WEIGHTS);
    assert!(said.contains("absent"), "{said}");
    let said = refusal(&bench.run(&[&steps[..], &["file", "--batch-size", "0"]].concat()), 2);
    assert!(said.contains("--batch-size"), "{said}");
}
