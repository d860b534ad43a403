//! A store that was edited by hand, damaged, or filled by several commands: what is wrong is reported, what is missing
//! is counted, and nothing wrong gets into a table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Bench, SYNTHETIC, adapters, done, refusal};
use report::record::{Record, Stage};
use san_core::io::safetensors::{TensorFile, write_tensors};
use tch::Kind;

/// Two seeds of two methods at fixed rates: four runs.
fn four_runs() -> Bench {
    let bench = Bench::new(&SYNTHETIC.replace("[1.0e-3, 1.0e-2]", "1.0e-2"));
    done(&bench, &["run", "vtab.yaml"]);
    assert_eq!(bench.runs().len(), 4);
    bench
}

fn record_of(run: &Path) -> Record {
    Record::read(&run.join("record.json")).unwrap()
}

/// The runs of SAN, sorted by seed.
fn san_runs(bench: &Bench) -> Vec<PathBuf> {
    let mut runs: Vec<PathBuf> =
        bench.runs().into_iter().filter(|run| record_of(run).method.name == "san").collect();
    runs.sort_by_key(|run| record_of(run).seed);
    runs
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn each_of_ten_edits_of_a_store_is_named_and_none_reaches_a_table() {
    let bench = four_runs();
    let runs = san_runs(&bench);
    let [run, other] = [&runs[0], &runs[1]];
    type Edit<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let copy = |name: &'static str| move || assert!(fs::copy(other.join(name), run.join(name)).unwrap() > 0);
    let edits: [Edit<'_>; 10] = [
        ("record.json", Box::new(|| flip_a_bit(&run.join("record.json")))),
        ("record.json", Box::new(|| edit(&run.join("record.json"), "\"accuracy\": 0.", "\"accuracy\": 0.9"))),
        ("record.json", Box::new(copy("record.json"))),
        ("record.json", Box::new(|| edit(&run.join("record.json"), "\"checksum\": \"", "\"checksum\": \"0"))),
        ("run.json", Box::new(|| edit(&run.join("run.json"), "\"seed\": 0", "\"seed\": 7"))),
        ("run.json", Box::new(copy("run.json"))),
        ("predictions.parquet", Box::new(copy("predictions.parquet"))),
        ("predictions.parquet", Box::new(|| flip_a_bit(&run.join("predictions.parquet")))),
        ("epochs.jsonl", Box::new(|| edit(&run.join("epochs.jsonl"), "\"epoch\":1", "\"epoch\":9"))),
        ("steps.jsonl", Box::new(|| fs::remove_file(run.join("steps.jsonl")).unwrap())),
    ];
    let table = bench.path("results/tables/vtab/embedded/vtab-embedded-vit_micro.csv");
    let before = fs::read(&table).unwrap();
    for (file, alter) in edits {
        let sound: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(run)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(&path).unwrap()))
            .collect();
        alter();
        let said = refusal(&bench.run(&["report", "vtab"]), 7);
        assert!(said.contains(run.join(file).to_str().unwrap().rsplit("results/").next().unwrap()), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(fs::read(&table).unwrap(), before);
        for (path, bytes) in sound {
            fs::write(path, bytes).unwrap();
        }
        done(&bench, &["report", "vtab"]);
    }
}

#[test]
fn an_adapter_that_is_not_the_one_that_was_trained_is_neither_merged_nor_exported() {
    let bench = four_runs();
    let runs = san_runs(&bench);
    let adapter = runs[0].join("adapter.safetensors");
    let sound = fs::read(&adapter).unwrap();
    let rewritten = |change: &dyn Fn(&mut TensorFile)| {
        let mut file = TensorFile::read(&adapter).unwrap();
        change(&mut file);
        let (key, text) = file.metadata.iter().next().unwrap();
        let tensors = file.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        write_tensors(&adapter, tensors, (key.as_str(), text.clone()), Kind::Float).unwrap();
    };
    let gammas = ["blocks.0.mlp.fc2.gamma", "blocks.1.mlp.fc2.gamma"];
    let edits: [Box<dyn Fn()>; 4] = [
        Box::new(|| flip_a_bit(&adapter)),
        Box::new(|| assert!(fs::copy(runs[1].join("adapter.safetensors"), &adapter).unwrap() > 0)),
        Box::new(|| rewritten(&|file| drop(file.tensors[gammas[0]].shallow_clone().fill_(f64::NAN)))),
        Box::new(|| {
            rewritten(&|file| {
                let [first, second] = gammas.map(|name| file.tensors.remove(name).unwrap());
                file.tensors.insert(gammas[0].into(), second);
                file.tensors.insert(gammas[1].into(), first);
            });
        }),
    ];
    let run = runs[0].to_str().unwrap();
    for alter in edits {
        alter();
        for command in ["merge", "export"] {
            let output = bench.path("output.safetensors");
            let said = refusal(&bench.run(&[command, run, "--output", output.to_str().unwrap()]), 7);
            assert!(said.contains("adapter.safetensors has changed since its record"), "{said}");
            assert!(!output.exists());
        }
        fs::write(&adapter, &sound).unwrap();
    }
    let output = bench.path("output.safetensors");
    done(&bench, &["merge", run, "--output", output.to_str().unwrap()]);
}

#[test]
fn a_run_folder_without_a_valid_record_is_trained_again() {
    let bench = four_runs();
    let before = adapters(&bench);
    let run = san_runs(&bench).remove(0);
    let record = run.join("record.json");
    let breaks: [&dyn Fn(); 4] = [
        &|| fs::remove_file(&record).unwrap(),
        &|| fs::write(&record, "").unwrap(),
        &|| flip_a_bit(&record),
        &|| {
            fs::remove_dir_all(&run).unwrap();
            fs::write(&run, "a file in the place of a folder").unwrap();
        },
    ];
    for damage in breaks {
        damage();
        let status = done(&bench, &["status", "vtab.yaml"]);
        assert!(status.contains("3 done"), "{status}");
        done(&bench, &["run", "vtab.yaml"]);
        assert_eq!(adapters(&bench), before);
    }
}

#[test]
fn running_a_part_of_a_suite_leaves_the_full_table_unchanged() {
    let bench = four_runs();
    let table = bench.path("results/tables/vtab/embedded/vtab-embedded-vit_micro.csv");
    let before = fs::read_to_string(&table).unwrap();
    for arguments in [&["--methods", "san", "--seeds", "0"][..], &["--methods", "linear"]] {
        let printed = done(&bench, &[&["run", "vtab.yaml"][..], arguments].concat());
        assert!(printed.contains("SAN") && printed.contains("linear"), "{printed}");
        assert_eq!(fs::read_to_string(&table).unwrap(), before);
    }
    // Other settings make another table, and a table of fewer runs gets another name.
    done(&bench, &["run", "vtab.yaml", "--methods", "san", "--epochs", "3"]);
    assert_eq!(fs::read_to_string(&table).unwrap(), before);
    let others = fs::read_dir(table.parent().unwrap()).unwrap();
    let others = others.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let others: Vec<_> = others.filter(|name| name.starts_with("vtab-embedded-vit_micro-")).collect();
    assert!(others.iter().any(|name| name.ends_with(".tex")), "{others:?}");
}

#[test]
fn a_table_says_how_many_of_its_runs_are_missing() {
    let bench = four_runs();
    for run in san_runs(&bench) {
        fs::remove_dir_all(run).unwrap();
    }
    fs::remove_dir_all(bench.path("results/tables")).unwrap();
    let printed = done(&bench, &["report", "vtab"]);
    let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(printed.contains("2 of 4 planned runs are missing: SAN"), "{printed}");
}

#[test]
fn a_table_of_fewer_runs_does_not_overwrite_one_of_more_runs() {
    let bench = four_runs();
    let table = bench.path("results/tables/vtab/embedded/vtab-embedded-vit_micro.csv");
    let before = fs::read_to_string(&table).unwrap();
    fs::remove_dir_all(bench.path("results/runs")).unwrap();
    let printed = done(&bench, &["run", "vtab.yaml", "--methods", "linear", "--seeds", "0"]);
    assert_eq!(fs::read_to_string(&table).unwrap(), before);
    assert!(printed.contains("vtab-embedded-vit_micro-partial.csv"), "{printed}");
}

#[test]
fn a_model_with_non_finite_weights_is_recorded_as_diverged_and_left_out_of_tables() {
    // A single step, after which no loss is computed.
    let experiment = SYNTHETIC
        .replace("epochs: 2", "epochs: 1")
        .replace("warmup_epochs: 1", "warmup_epochs: 0")
        .replace("batch_size: 16", "batch_size: 64")
        .replace("[1.0e-3, 1.0e-2]", "1.0e+30")
        .replace("learning_rate: 1.0e-2", "learning_rate: 1.0e+38");
    let bench = Bench::new(&experiment);
    let printed = done(&bench, &["run", "vtab.yaml"]);
    assert!(printed.contains("diverged"), "{printed}");
    for run in bench.runs() {
        let text = fs::read_to_string(run.join("record.json")).unwrap();
        assert!(text.contains("\"state\": \"diverged\"") && text.contains("\"accuracy\": null"), "{text}");
        assert!(!run.join("predictions.parquet").exists());
    }
}

#[test]
fn a_language_model_with_non_finite_weights_is_recorded_as_diverged() {
    let experiment = "
name: vtab
suite: commonsense
profiles:
  embedded:
    data: {synthetic: {train: 8, val: 4, test: 4}}
    sets: [boolq, piqa]
    backbones: [llama_micro]
    methods:
      - {method: san, learning_rate: 1.0e+30}
    seeds: [0]
    protocol:
      epochs: 1
      batch_size: 16
      instruction_following:
        examples: {max_length: 256, train_on_inputs: false, keep_answer: false}
        warmup_steps: 0
        language:
          decoding: READING
          max_new_tokens: 4
          evaluation: {sequences: 4}
";
    for reading in ["greedy", "{beams: 2}", "likelihood"] {
        let bench = Bench::new(&experiment.replace("READING", reading));
        done(&bench, &["run", "vtab.yaml"]);
        let runs = bench.runs();
        let text = fs::read_to_string(runs[0].join("record.json")).unwrap();
        assert!(text.contains("\"state\": \"diverged\""), "{reading}: {text}");
        assert!(!runs[0].join("boolq.predictions.parquet").exists());
    }
}

#[test]
fn a_record_names_the_commit_that_the_program_was_built_from() {
    let bench = Bench::new(&SYNTHETIC.replace("[1.0e-3, 1.0e-2]", "1.0e-2"));
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
        let output = std::process::Command::new("git")
            .args(identity)
            .args(arguments)
            .current_dir(bench.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    // An unrelated repository, as in a user's own project.
    git(&["init", "--quiet"]);
    git(&["commit", "--quiet", "--allow-empty", "--message", "another project"]);
    done(&bench, &["run", "vtab.yaml", "--methods", "linear", "--seeds", "0"]);
    let record = record_of(&bench.runs()[0]);
    assert_eq!(record.stage, Stage::Final);
    assert_eq!(record.provenance.commit, runner::workers::recorder::COMMIT);
    assert_eq!(record.provenance.dirty, runner::workers::recorder::is_modified());
    let version = done(&bench, &["--version"]);
    assert!(
        version.contains(runner::workers::recorder::COMMIT) && version.contains("libtorch 2."),
        "{version}"
    );
}

#[test]
fn names_from_records_neither_escape_a_folder_nor_print_control_characters() {
    let bench = four_runs();
    let run = san_runs(&bench).remove(0);
    let mut record = record_of(&run);
    record.method.label = "\u{1b}[2J../../../outside".into();
    record.backbone.name = "../../../outside".into();
    fs::write(run.join("record.json"), record.to_bytes().unwrap()).unwrap();
    let printed = done(&bench, &["report", "vtab"]);
    assert!(!printed.contains('\u{1b}'), "{printed:?}");
    done(&bench, &["report", "vtab", "--tensorboard", "deep/inside/events"]);
    assert!(!bench.path("outside").exists() && !bench.path("deep/outside").exists());
    let events = bench.path("deep/inside/events/embedded/..-..-..-outside");
    assert!(events.is_dir(), "{events:?}");
}
