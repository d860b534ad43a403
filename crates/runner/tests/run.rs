//! A whole experiment: run, run again, killed and resumed, in one process or two.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::PathBuf;

use common::{Bench, SYNTHETIC, adapters, done, is_checkpoint, refusal};
use report::record::{Record, Stage};
use san_core::io::safetensors::{TensorFile, write_tensors};

#[test]
fn a_run_tunes_on_val_trains_on_both_and_is_not_repeated() {
    let bench = Bench::new(SYNTHETIC);
    let plan = done(&bench, &["plan", "vtab.yaml"]);
    assert!(plan.contains("mini/patch_camelyon") && plan.contains("2 tuning runs on val"), "{plan}");
    assert!(plan.contains("6 by the built-in model"), "{plan}");
    assert!(bench.runs().is_empty(), "a plan writes nothing");
    let table = done(&bench, &["run", "vtab.yaml"]);
    assert!(table.contains("SAN") && table.contains("profile embedded"), "{table}");
    let records: Vec<_> =
        bench.runs().iter().map(|run| Record::read(&run.join("record.json")).unwrap()).collect();
    let (tuned, finals): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.stage == Stage::Tune);
    assert_eq!((tuned.len(), finals.len()), (2, 4));
    assert!(tuned.iter().all(|record| (record.dataset.train, record.dataset.test) == (24, 12)));
    assert!(finals.iter().all(|record| (record.dataset.train, record.dataset.test) == (36, 30)));
    let best = tuned.iter().map(|record| record.metrics.accuracy.unwrap()).fold(0.0, f64::max);
    for record in finals.iter().filter(|record| record.method.name == "san") {
        let rate = record.protocol["learning_rate"].as_f64().unwrap();
        let chosen = tuned.iter().find(|tuned| tuned.protocol["learning_rate"] == rate).unwrap();
        assert_eq!(chosen.metrics.accuracy.unwrap(), best);
        assert!(record.metrics.merge_difference.unwrap() < 1e-4);
    }
    let before = adapters(&bench);
    let more = done(&bench, &["plan", "vtab.yaml", "--epochs", "3"]);
    assert!(more.contains("6 by the built-in model"), "other epochs take another time: {more}");
    std::fs::remove_dir_all(&bench.runs()[0]).unwrap();
    let rest = done(&bench, &["status", "vtab.yaml", "--workers", "1"]);
    assert!(rest.contains("second") && rest.contains("for the remaining 1, with 1 worker"), "{rest}");
    done(&bench, &["run", "vtab.yaml"]);
    let again = bench.run_all();
    assert!(!String::from_utf8_lossy(&again.stderr).contains("runs in"), "nothing was left to run");
    assert_eq!(before, adapters(&bench));
}

#[test]
fn the_result_does_not_depend_on_the_number_of_workers_or_on_earlier_runs() {
    let (one, two) = (Bench::new(SYNTHETIC), Bench::new(SYNTHETIC));
    done(&one, &["run", "vtab.yaml", "--workers", "1"]);
    done(&two, &["run", "vtab.yaml", "--workers", "2", "--methods", "san"]);
    done(&two, &["run", "vtab.yaml", "--workers", "2"]);
    assert_eq!(adapters(&one).len(), 6);
    assert_eq!(adapters(&one), adapters(&two));
}

#[test]
fn a_killed_sweep_resumes_with_the_unfinished_runs() {
    let whole = Bench::new(SYNTHETIC);
    done(&whole, &["run", "vtab.yaml"]);
    let killed = Bench::new(SYNTHETIC);
    for milliseconds in [300, 600, 900, 1200] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_san"))
            .args(["run", "vtab.yaml"])
            .current_dir(killed.folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        let _ = child.kill();
        let _ = child.wait();
    }
    done(&killed, &["run", "vtab.yaml"]);
    assert_eq!(adapters(&whole), adapters(&killed));
    let left: Vec<_> = std::fs::read_dir(killed.path("results/runs/vtab/embedded"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(".scratch"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Starts an experiment, waits until a run has saved its state, and sends `signal` the given time later.
fn interrupted(bench: &Bench, arguments: &[&str], milliseconds: u64, signal: &str) {
    let started = std::time::SystemTime::now();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_san"))
        .args(["run", "vtab.yaml", "--checkpoint-every", "0"])
        .args(arguments)
        .current_dir(bench.folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let saved = || {
        let fresh =
            |path: &PathBuf| path.metadata().and_then(|data| data.modified()).is_ok_and(|at| at > started);
        checkpoints(bench).iter().any(fresh)
    };
    while !saved() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    let id = child.id().to_string();
    let workers = std::process::Command::new("pgrep").args(["-P", &id]).output().unwrap();
    let _ = std::process::Command::new("kill").args([signal, &id]).status();
    if signal == "-KILL" {
        let workers = String::from_utf8_lossy(&workers.stdout).into_owned();
        let _ = std::process::Command::new("kill").arg(signal).args(workers.split_whitespace()).status();
    }
    let code = child.wait().unwrap().code();
    assert!([None, Some(0), Some(75)].contains(&code), "{code:?}");
}

/// Two runs long enough to be interrupted midway.
fn long() -> Bench {
    Bench::new(&SYNTHETIC.replace("epochs: 2", "epochs: 90").replace("[1.0e-3, 1.0e-2]", "1.0e-3"))
}

fn checkpoints(bench: &Bench) -> Vec<PathBuf> {
    let folder = bench.path("results/runs/vtab/embedded/.checkpoints");
    let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| is_checkpoint(path)).collect()
}

#[test]
fn a_run_resumes_bit_for_bit_after_sigkill_and_after_sigterm() {
    let arguments = ["--methods", "san", "--workers", "2"];
    let whole = long();
    done(&whole, &[&["run", "vtab.yaml"][..], &arguments].concat());
    let broken = long();
    let mut met = 0;
    for (number, milliseconds) in (0..8).map(|number| (number, 1 + 13 * number)) {
        let signal = if number % 3 == 2 { "-TERM" } else { "-KILL" };
        interrupted(&broken, &arguments, milliseconds, signal);
        met += checkpoints(&broken).len();
    }
    assert!(met > 0, "no run was met in its middle");
    done(&broken, &[&["run", "vtab.yaml"][..], &arguments].concat());
    assert_eq!(adapters(&whole), adapters(&broken));
    done(&broken, &[&["run", "vtab.yaml"][..], &arguments].concat());
    let left = std::fs::read_dir(broken.path("results/runs/vtab/embedded/.checkpoints")).unwrap().count();
    assert_eq!(left, 0, "finished runs need no checkpoints");
}

#[test]
fn a_damaged_checkpoint_is_discarded_and_the_run_starts_again() {
    let arguments = ["run", "vtab.yaml", "--methods", "san", "--seeds", "0"];
    let whole = long();
    done(&whole, &arguments);
    for damage in ["cut", "flipped"] {
        let bench = long();
        interrupted(&bench, &["--methods", "san", "--seeds", "0"], 20, "-KILL");
        assert!(bench.runs().is_empty(), "the run ended before it was met");
        let path = &checkpoints(&bench)[0];
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        if damage == "cut" {
            bytes.truncate(middle)
        } else {
            bytes[middle] ^= 1
        }
        std::fs::write(path, bytes).unwrap();
        let output = bench.run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("starts again"), "{damage}: {said}");
        assert_eq!(adapters(&whole), adapters(&bench));
    }
}

#[test]
fn sigterm_exits_with_the_resumable_code() {
    let bench = Bench::new(&SYNTHETIC.replace("epochs: 2", "epochs: 2000"));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_san"))
        .args(["run", "vtab.yaml"])
        .current_dir(bench.folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let _ = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert_eq!(child.wait().unwrap().code(), Some(75));
}

#[test]
fn a_loss_that_is_not_finite_is_recorded_and_shown() {
    let bench = Bench::new(&SYNTHETIC.replace("learning_rate: [1.0e-3, 1.0e-2]", "learning_rate: 1.0e+30"));
    let table = done(&bench, &["run", "vtab.yaml"]);
    assert!(table.contains("diverged"), "{table}");
}

#[test]
fn a_run_is_merged_into_plain_weights() {
    let bench = Bench::new(SYNTHETIC);
    done(&bench, &["run", "vtab.yaml", "--methods", "san", "--seeds", "0"]);
    let run = bench.runs()[0].display().to_string();
    let text = done(&bench, &["merge", &run, "--output", "merged.safetensors"]);
    assert!(text.contains("SAN") && text.contains("mini/patch_camelyon"), "{text}");
    let merged = san_core::io::safetensors::TensorFile::read(&bench.path("merged.safetensors")).unwrap();
    assert!(merged.tensors.contains_key("head.weight"));
    assert!(merged.tensors.keys().all(|name| !name.contains("patch_embed.proj.gamma")));
}

#[test]
fn tables_figures_and_json_come_from_the_records() {
    let bench = Bench::new(SYNTHETIC);
    done(&bench, &["run", "vtab.yaml"]);
    let figures = done(&bench, &["report", "vtab", "--figures"]);
    let files: Vec<_> = figures.lines().filter_map(|line| line.strip_prefix("figure: ")).collect();
    let of_methods = ["accuracy", "accuracy-memory", "accuracy-time", "groups", "ranks"];
    let of_one_run = ["gamma", "gamma-histogram", "surface", "singular-values", "effective-rank"];
    for figure in of_methods.into_iter().chain(of_one_run) {
        for ending in ["svg", "png"] {
            let name = format!("vtab-embedded-vit_micro-{figure}.{ending}");
            assert!(files.iter().any(|file| file.ends_with(&name)), "{name}: {figures}");
        }
    }
    assert!(files.iter().all(|file| bench.path(file).metadata().unwrap().len() > 1000));
    let json = done(&bench, &["report", "vtab", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value[0]["profile"], "embedded");
}

#[test]
fn a_pretraining_is_a_function_of_its_seed() {
    let bench = Bench::new(SYNTHETIC);
    let train = |name: &str, seed: &str| {
        let arguments = ["pretrain", "vit_micro", "--steps", "3", "--batch-size", "8", "--device", "cpu"];
        done(&bench, &[&arguments[..], &["--output", name, "--seed", seed]].concat());
        std::fs::read(bench.path(name)).unwrap()
    };
    assert_eq!(train("one", "0"), train("two", "0"));
    assert_ne!(train("one", "0"), train("three", "1"));
    let still = ["pretrain", "vit_micro", "--from", "one", "--steps", "1", "--learning-rate", "0"];
    done(&bench, &[&still[..], &["--batch-size", "8", "--output", "four"]].concat());
    let [one, four] = ["one", "four"].map(|name| TensorFile::read(&bench.path(name)).unwrap());
    assert_eq!(one.tensors, four.tensors);
    assert!(four.metadata["config"].contains(&one.checksum), "{}", four.metadata["config"]);
}

#[test]
fn an_interrupted_pretraining_resumes_and_ends_with_the_same_bytes() {
    let bench = Bench::new(SYNTHETIC);
    let arguments = |output| {
        [
            "pretrain",
            "vit_micro",
            "--steps",
            "300",
            "--batch-size",
            "16",
            "--device",
            "cpu",
            "--output",
            output,
        ]
    };
    done(&bench, &arguments("whole"));
    let log = std::fs::read(bench.path("results/pretrain/vit_micro/steps.jsonl")).unwrap();
    assert_eq!(log.iter().filter(|byte| **byte == b'\n').count(), 300);

    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_san"))
        .args(arguments("resumed"))
        .current_dir(bench.folder.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // The log is opened before the first step.
    let folder = bench.path("results/pretrain/.checkpoints");
    let files = || std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    while files().next().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(!bench.path("resumed").exists());
    assert!(files().any(|path| is_checkpoint(&path)), "it was stopped in the middle");
    done(&bench, &arguments("resumed"));
    let [whole, resumed] = ["whole", "resumed"].map(|name| std::fs::read(bench.path(name)).unwrap());
    assert!(whole == resumed);
    assert_eq!(std::fs::read(bench.path("results/pretrain/vit_micro/steps.jsonl")).unwrap(), log);
    assert!(files().next().is_none(), "a finished training needs no checkpoint");
}

#[test]
fn methods_md_matches_the_registry() {
    let bench = Bench::new(SYNTHETIC);
    let document = done(&bench, &["methods", "--markdown"]);
    let committed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../METHODS.md");
    assert_eq!(document, std::fs::read_to_string(committed).unwrap(), "san methods --markdown > METHODS.md");
}

#[test]
fn a_wiring_is_printed_and_drawn_for_every_family() {
    let bench = Bench::new(SYNTHETIC);
    for (backbone, reads) in [
        ("vit_micro", "blocks.5.mlp.fc1"),
        ("swin_micro", "tiled 4 times"),
        ("convnext_micro", "stages.1.downsample.1"),
        ("llama_micro", "model.layers.3.mlp.up_proj"),
        ("llava_micro", "multi_modal_projector.linear_1"),
    ] {
        let arguments = ["wiring", backbone, "--wiring", "full", "--figure", "figures"];
        let table = done(&bench, &arguments);
        assert!(table.contains(reads), "{table}");
        let figure = bench.path(format!("figures/{backbone}-full.svg"));
        assert!(std::fs::read_to_string(figure).unwrap().contains("<polyline"), "no arrow is drawn");
    }
}

#[test]
fn methods_that_differ_in_any_option_have_different_rows() {
    let options = "{method: lora, learning_rate: 1.0e-2, options: {alpha: 16}}";
    let both = format!("{{method: lora, learning_rate: 1.0e-2}}\n      - {options}");
    let bench = Bench::new(&SYNTHETIC.replace("{method: linear, learning_rate: 1.0e-2}", &both));
    let plan = done(&bench, &["plan", "vtab.yaml"]);
    assert!(plan.contains("LoRA (alpha 16)"), "{plan}");
}

#[test]
fn an_adapter_without_a_head_gets_that_of_the_published_weights_or_is_refused() {
    const NAME: &str = "vit_tiny_patch16_224.augreg_in21k";
    let bench = Bench::new(SYNTHETIC);
    let model_spec = backbones::registry::find(NAME).unwrap().architecture.model_spec(NAME);
    let mut weights = san_core::Weights::random(&model_spec, 0).unwrap();
    let ones = |size: &[i64]| tch::Tensor::ones(size, (tch::Kind::Float, tch::Device::Cpu));
    let factors: Vec<_> = (0..12)
        .flat_map(|block| [("A", [2, 192]), ("B", [576, 2])].map(|(factor, size)| (block, factor, size)))
        .map(|(block, factor, size)| {
            (format!("base_model.model.blocks.{block}.attn.qkv.lora_{factor}.weight"), ones(&size))
        })
        .collect();
    let write = |path: &str, tensors: Vec<(&str, &tch::Tensor)>| {
        std::fs::create_dir_all(bench.path(path).parent().unwrap()).unwrap();
        write_tensors(&bench.path(path), tensors, ("format", "pt".into()), tch::Kind::Float).unwrap();
    };
    let named = factors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write("peft/adapter_model.safetensors", named);
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "modules_to_save": null}"#;
    std::fs::write(bench.path("peft/adapter_config.json"), config).unwrap();

    let arguments = ["import", "peft", "--backbone", NAME, "--output", "adapter.safetensors"];
    let file = format!("weights/{NAME}/model.safetensors");
    write(&file, weights.iter().collect());
    let said = refusal(&bench.run(&arguments), 4);
    assert!(said.contains("without `modules_to_save`") && said.contains("have no head"), "{said}");
    weights.insert("head.weight", ones(&[3, 192]));
    weights.insert("head.bias", ones(&[3]) * 2.0);
    write(&file, weights.iter().collect());
    done(&bench, &arguments);
    let read = TensorFile::read(&bench.path("adapter.safetensors")).unwrap();
    assert_eq!(read.tensors["head.bias"].squeeze(), ones(&[3]) * 2.0);
}

#[test]
fn an_adapter_goes_to_pefts_format_and_back() {
    let lora = "{method: lora, learning_rate: 1.0e-2}";
    let bench = Bench::new(&SYNTHETIC.replace("{method: linear, learning_rate: 1.0e-2}", lora));
    done(&bench, &["run", "vtab.yaml", "--methods", "lora", "--seeds", "0"]);
    let run = bench.runs()[0].display().to_string();
    done(&bench, &["export", &run, "--output", "peft"]);
    assert!(std::fs::read_to_string(bench.path("peft/adapter_config.json")).unwrap().contains("LORA"));
    let said =
        done(&bench, &["import", "peft", "--backbone", "vit_micro", "--output", "adapter.safetensors"]);
    assert!(said.contains("LoRA r=16 (qkv, alpha 16)"), "{said}");
    let read = |path: PathBuf| san_core::io::safetensors::TensorFile::read(&path).unwrap().tensors;
    let (before, after) =
        (read(bench.runs()[0].join("adapter.safetensors")), read(bench.path("adapter.safetensors")));
    assert_eq!(before["head.weight"], after["head.weight"]);
    let site = "blocks.0.attn.qkv";
    assert_eq!(before[&format!("{site}.q.lora_a")], after[&format!("{site}.lora_a")].narrow(1, 0, 8));
}
