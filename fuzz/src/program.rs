//! Files that the program reads: experiment files and records of finished runs.

use std::fs;
use std::path::Path;

use report::Request;
use runner::config::experiment::Experiment;

use crate::scratch;

/// Reads an experiment.
pub fn experiment(input: &[u8]) {
    let _ = Experiment::parse(input);
}

/// Valid inputs.
pub fn experiment_seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments");
    let files = fs::read_dir(folder).expect("the experiments are there").flatten();
    files.map(|file| fs::read(file.path()).expect("an experiment can be read")).collect()
}

/// Reads a record and checks its contents.
pub fn records(input: &[u8]) {
    let path = scratch::write("runs/a/record.json", input);
    let runs = path.ancestors().nth(2).expect("it is in two folders").to_owned();
    let Ok(stored) = report::load::read_records(&runs) else { return };
    let Some(first) = stored.first() else { return };
    let (experiment, profile) = (first.record.experiment.clone(), first.record.profile.clone());
    if let Ok(comparisons) = report::compare(&Request { runs, experiment, profile, backbone: None }) {
        comparisons.iter().for_each(|comparison| drop(format!("{comparison:?}")));
    }
}

/// Valid inputs.
pub fn records_seeds() -> Vec<Vec<u8>> {
    vec![include_bytes!("../seeds/record.json").to_vec()]
}
