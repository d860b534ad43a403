//! From a folder of runs to records: which ones are selected, and how bad input is reported.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{records, write};
use report::record::{STEPS_FILE, Stage};
use report::{Request, compare, write_event_files, write_tables};

fn request(runs: &Path) -> Request {
    Request {
        runs: runs.into(),
        experiment: "vtab".into(),
        profile: "embedded".into(),
        backbone: None,
        all_runs: false,
        filter: None,
    }
}

fn folder_of_runs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for stored in records() {
        write(&folder.path().join("deeper"), &stored.record);
    }
    folder
}

#[test]
fn only_final_records_of_the_suite_and_profile_are_compared() {
    let folder = folder_of_runs();
    let mut tuning = records()[0].record.clone();
    (tuning.stage, tuning.run) = (Stage::Tune, "tuning".into());
    write(folder.path(), &tuning);
    let mut small = records()[0].record.clone();
    (small.profile, small.run) = ("small".into(), "small".into());
    write(folder.path(), &small);

    let found = compare(&request(folder.path())).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].records().len(), records().len());
}

#[test]
fn an_empty_selection_is_reported_with_the_records_found() {
    let folder = folder_of_runs();
    let request = Request { backbone: Some("swin_micro".into()), ..request(folder.path()) };
    let message = compare(&request).unwrap_err().to_string();
    assert!(message.contains("backbone `swin_micro`"), "{message}");
    assert!(message.contains("vtab embedded vit_micro (final)"), "{message}");
    let missing = compare(&self::request(Path::new("/no/such/folder"))).unwrap_err().to_string();
    assert!(missing.contains("cannot list the folder /no/such/folder"), "{missing}");
}

#[test]
fn records_of_the_first_schema_are_still_read() {
    let folder = folder_of_runs();
    for stored in records() {
        let path = write(&folder.path().join("deeper"), &stored.record);
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("\"schema\":2", "\"schema\":1").replacen("\"run\":", "\"cell\":", 1);
        assert!(text.contains("\"cell\":"), "{text}");
        std::fs::write(&path, text).unwrap();
    }
    let found = compare(&request(folder.path())).unwrap();
    assert_eq!(found[0].records().len(), records().len());
}

#[test]
fn broken_records_are_reported_with_their_file() {
    let folder = folder_of_runs();
    let path = write(folder.path(), &records()[0].record);
    let valid = std::fs::read_to_string(&path).unwrap();
    for (broken, expected) in [
        (valid[..100].to_owned(), "is not a record: "),
        (valid.replace("\"schema\":2", "\"schema\":3"), "was written with record schema 3"),
        (valid.replace("\"schema\":2", "\"schema\":3,\"new\":0"), "was written with record schema 3"),
        (valid.replace("\"accuracy\":0.5", "\"accuracy\":50.0"), "its accuracy 50 is outside [0, 1]"),
        (valid.replace("\"accuracy\":0.5", "\"accuracy\":null"), "it is finished but has no accuracy"),
    ] {
        assert_ne!(broken, valid);
        std::fs::write(&path, broken).unwrap();
        let message = compare(&request(folder.path())).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains(path.to_str().unwrap()), "{message}");
    }
}

#[test]
fn a_log_entry_without_its_step_is_reported_with_its_file() {
    let runs = tempfile::tempdir().unwrap();
    let path = write(runs.path(), &records()[0].record).with_file_name(STEPS_FILE);
    std::fs::write(&path, "{\"step\":1,\"loss\":0.5}\n{\"loss\":0.4}\n").unwrap();
    let comparison = compare(&request(runs.path())).unwrap().remove(0);
    let out = tempfile::tempdir().unwrap();
    let message = write_event_files(&comparison, out.path()).unwrap_err().to_string();
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    assert!(message.contains("entry 2 has no integer `step`"), "{message}");
}

#[test]
fn tables_are_complete_and_the_tidy_file_has_one_line_per_record() {
    let runs = folder_of_runs();
    let comparison = compare(&request(runs.path())).unwrap().remove(0);
    let out = tempfile::tempdir().unwrap();
    let written = write_tables(&comparison, &out.path().join("tables")).unwrap();
    let names: Vec<_> = written.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let name = "vtab-embedded-vit_micro";
    assert_eq!(
        names,
        ["md", "tex", "csv"]
            .map(|ending| format!("{name}.{ending}"))
            .into_iter()
            .chain(
                ["-differences.csv", "-aggregates.csv", "-runs.csv", ".html", "-runs.parquet"]
                    .map(|ending| format!("{name}{ending}"))
            )
            .collect::<Vec<_>>()
    );
    let tidy = std::fs::read_to_string(&written[5]).unwrap();
    assert_eq!(tidy.lines().count(), 1 + records().len());
    assert!(tidy.contains("vtab,embedded,vit_micro,san,SAN (authors),structured,mini/c,2,1,diverged,,"));
    assert_eq!(std::fs::read_dir(out.path().join("tables")).unwrap().count(), written.len());
}

#[test]
fn an_unwritable_path_is_reported() {
    let runs = folder_of_runs();
    let comparison = compare(&request(runs.path())).unwrap().remove(0);
    let file = runs.path().join("file");
    std::fs::write(&file, "").unwrap();
    let message = write_tables(&comparison, &file).unwrap_err().to_string();
    assert!(message.contains("cannot write") && message.contains("vtab-embedded-vit_micro.md"), "{message}");
}
