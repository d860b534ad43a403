//! Curves for trackers: every number of the logs, with the steps and names under which trackers show them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{records, write};
use report::export::trackers::{tracked_runs, write_history_files};
use report::record::{EPOCHS_FILE, STEPS_FILE};
use report::{Request, compare};
use serde_json::Value;

fn comparison(folder: &std::path::Path) -> report::Comparison {
    let path = write(folder, &records()[0].record);
    // 160 steps according to the record, of which these are the first; two epochs of 80.
    let steps =
        "{\"step\":1,\"loss\":2.0,\"learning_rate\":0.1}\n{\"step\":2,\"loss\":1.5,\"learning_rate\":0.2}\n";
    std::fs::write(path.with_file_name(STEPS_FILE), steps).unwrap();
    let epochs = "{\"epoch\":1,\"train_loss\":1.2,\"part_accuracies\":{\"nt\":0.5}}\n{\"epoch\":2,\"train_loss\":1.0}\n";
    std::fs::write(path.with_file_name(EPOCHS_FILE), epochs).unwrap();
    let request = Request {
        runs: folder.into(),
        experiment: "vtab".into(),
        profile: "embedded".into(),
        backbone: None,
        all_runs: false,
        filter: None,
    };
    compare(&request).unwrap().remove(0)
}

#[test]
fn trackio_entries_have_steps_metrics_and_identifiers() {
    let folder = tempfile::tempdir().unwrap();
    let runs = tracked_runs(&comparison(folder.path())).unwrap();
    let entries = runs[0].trackio_entries();
    let steps: Vec<u64> = entries.iter().map(|entry| entry["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2, 80, 160]);
    assert_eq!(entries[0]["project"], "vtab-embedded");
    assert_eq!(entries[0]["run"], "vit_micro/mini/a/linear-seed0");
    assert_eq!(entries[1]["metrics"]["step/loss"], 1.5);
    assert_eq!(entries[2]["metrics"]["epoch/part_accuracies/nt"], 0.5);
    assert_eq!(entries[3]["config"]["protocol"]["epochs"], 10);
    // The same entries again have the same identifiers, by which the server recognises them.
    let ids: std::collections::BTreeSet<&str> =
        entries.iter().map(|entry| entry["log_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), entries.len());
}

#[test]
fn history_files_have_one_json_line_per_step() {
    let folder = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let written = write_history_files(&comparison(folder.path()), out.path()).unwrap();
    assert_eq!(written.len(), 3);
    let history = std::fs::read_to_string(&written[0]).unwrap();
    let lines: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), lines[2]["_step"].as_u64()), (4, Some(80)));
    let config: Value = serde_json::from_str(&std::fs::read_to_string(&written[2]).unwrap()).unwrap();
    assert_eq!(config["method"]["value"], "linear");
}
