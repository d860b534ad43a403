//! `san verify`: what it prints, what it writes, and its exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Bench, refusal};
use serde_json::Value;

const DATA: i32 = 4;

/// Runs `san verify` on the folder of the small `mednist`.
fn verify(bench: &Bench, name: &str, options: &[&str]) -> std::process::Output {
    bench.run(&[&["verify", name, "--data", "data"], options].concat())
}

#[test]
fn a_valid_set_is_reported_and_its_manifest_is_written_to_the_results_folder() {
    let bench = Bench::on_files("vit_micro");
    let output = verify(&bench, "mednist", &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.starts_with("mednist: 6 / 6 / 6 images (VTAB-1k style)"),
        "{text}"
    );
    let manifest = std::fs::read(bench.path("results/manifests/vtab/mednist.txt")).unwrap();
    assert!(text.contains(&format!("data checksum {}", blake3::hash(&manifest).to_hex())), "{text}");
    assert_eq!(manifest.iter().filter(|byte| **byte == b'\n').count(), 18);
    assert!(!bench.path("data/mednist/manifest.txt").exists(), "the data are left as they were");
    assert!(verify(&bench, "mednist", &["--manifest-next-to-data"]).status.success());
    assert_eq!(std::fs::read(bench.path("data/mednist/manifest.txt")).unwrap(), manifest);
}

#[test]
fn every_error_in_the_data_is_named_with_its_line_and_exit_code() {
    let bench = Bench::on_files("vit_micro");
    let image = |name: &str| bench.path("data/mednist/images").join(name);
    let bytes = std::fs::read(image("3.jpg")).unwrap();
    std::fs::write(image("3.jpg"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(image("8.jpg"), "").unwrap();
    std::fs::remove_file(image("13.jpg")).unwrap();
    let output = verify(&bench, "mednist", &["--json"]);
    refusal(&output, DATA);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let faults: Vec<&str> =
        found[0]["faults"].as_array().unwrap().iter().map(|fault| fault.as_str().unwrap()).collect();
    assert_eq!((found[0]["usable"].as_bool(), faults.len()), (Some(false), 3), "{faults:?}");
    for (fault, place) in
        faults.iter().zip([("train800.txt:4", "3.jpg"), ("val200.txt:3", "8.jpg"), ("test.txt:2", "13.jpg")])
    {
        assert!(fault.contains(place.0) && fault.contains(place.1), "{fault}");
    }
}

#[test]
fn verifying_a_suite_reports_missing_sets_and_checks_the_others() {
    let bench = Bench::on_files("vit_micro");
    std::fs::create_dir(bench.path("data/svhn")).unwrap();
    let output = verify(&bench, "vtab", &[]);
    let said = refusal(&output, DATA);
    assert!(said.contains("svhn: ") && said.contains("svhn cannot be used"), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("mednist: 6 / 6 / 6") && text.contains("not in data: cifar100, "), "{text}");
    std::fs::remove_dir_all(bench.path("data")).unwrap();
    let said = refusal(&verify(&bench, "fgvc", &[]), DATA);
    assert!(said.contains("every set of fgvc"), "{said}");
}

#[test]
fn an_unknown_set_or_suite_is_answered_with_the_nearest_name() {
    let said = refusal(&verify(&Bench::on_files("vit_micro"), "mednits", &[]), DATA);
    assert!(said.contains("`mednits`") && said.contains("`mednist`"), "{said}");
    let said = refusal(&verify(&Bench::on_files("vit_micro"), "boolq", &[]), DATA);
    assert!(said.contains("is a text suite"), "{said}");
}
