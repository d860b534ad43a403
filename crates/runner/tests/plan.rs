//! What `san plan` says before anything runs: the size of a sweep, and everything that is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Bench, refusal};
use runner::config::experiment::Experiment;

const DATA: i32 = 4;
const WEIGHTS: i32 = 5;

/// The experiment files with a profile `paper`.
fn papers() -> Vec<(PathBuf, Experiment)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let experiment = Experiment::read(&path).unwrap_or_else(|error| panic!("{error}"));
        (path, experiment)
    };
    paths.map(read).filter(|(_, experiment)| experiment.profiles.contains_key("paper")).collect()
}

#[test]
fn everything_that_a_paper_profile_needs_is_listed_at_once_with_its_commands() {
    let papers = papers();
    assert_eq!(papers.len(), 7);
    for (path, experiment) in papers {
        let profile = &experiment.profiles["paper"];
        let bench = Bench::new(&std::fs::read_to_string(&path).unwrap());
        let begun = Instant::now();
        // The first names empty folders, the second none.
        let nowhere = [("SAN_DATA", ""), ("SAN_WEIGHTS", "")];
        for variables in [&[][..], &nowhere] {
            let plan = bench.run_with(&["plan", "vtab.yaml", "--profile", "paper"], variables);
            let refused = refusal(&plan, DATA);
            let text = String::from_utf8_lossy(&plan.stdout).into_owned();
            for set in &profile.sets {
                assert!(
                    text.contains(set.as_str()) && refused.contains(set.as_str()),
                    "{set}: {text}{refused}"
                );
            }
            for backbone in profile.backbones.iter().flat_map(|name| name.split('+')) {
                assert!(text.contains(&format!("san fetch {backbone}\n")), "{backbone}: {text}");
                assert!(refused.contains(backbone), "{refused}");
            }
            assert!(text.contains("missing data:") && text.contains("to download: "), "{text}");
            assert_eq!(text.contains("SAN_DATA is not set"), variables.len() == 2, "{text}");
        }
        let took = begun.elapsed() / 2;
        assert!(took < Duration::from_secs(2), "{}: {took:?}", path.display());
        let run = bench.run(&["run", "vtab.yaml", "--profile", "paper"]);
        let plan = bench.run(&["plan", "vtab.yaml", "--profile", "paper"]);
        assert_eq!(refusal(&run, DATA), refusal(&plan, DATA));
        assert_eq!(run.stdout, plan.stdout);
    }
}

#[test]
fn the_size_of_a_sweep_needs_neither_data_nor_weights() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/vtab.yaml");
    let bench = Bench::new(&std::fs::read_to_string(path).unwrap());
    let plan = bench.run(&["plan", "vtab.yaml", "--profile", "paper"]);
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(
        text.contains("19 sets x 3 backbones x 15 methods x 5 seeds in 4085 runs; first 3268 tuning runs"),
        "{text}"
    );
    // timm's count for this model without its head.
    let fft = text.lines().find(|line| line.starts_with(" FFT")).unwrap();
    assert!(fft.contains("85798656"), "{fft}");
    assert!(text.contains("san fetch vtab --accept-licence"), "{text}");
}

#[test]
fn what_is_there_is_checked_although_something_else_is_missing() {
    let bench = Bench::on_files("vit_tiny_patch16_224.augreg_in21k");
    let experiment = std::fs::read_to_string(bench.path("vtab.yaml")).unwrap();
    let two = experiment.replace("sets: [mednist]", "sets: [mednist, rsscn7]");
    std::fs::write(bench.path("vtab.yaml"), two).unwrap();
    let plan = |code| {
        let output = bench.run(&["plan", "vtab.yaml"]);
        refusal(&output, code);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = plan(DATA);
    let row =
        |name: &str| text.lines().find(|line| line.starts_with(&format!(" {name} "))).unwrap().to_owned();
    assert!(row("mednist").contains("12") && row("rsscn7").contains("missing"), "{text}");
    std::fs::write(bench.path("data/mednist/test.txt"), "images/0.jpg 99").unwrap();
    let text = plan(DATA);
    assert!(text.contains("there, but unusable:") && text.contains("label 99"), "{text}");
    std::fs::write(bench.path("vtab.yaml"), experiment).unwrap();
    let text = plan(WEIGHTS);
    assert!(
        text.contains("label 99") && text.contains("san fetch vit_tiny_patch16_224.augreg_in21k"),
        "{text}"
    );
}
