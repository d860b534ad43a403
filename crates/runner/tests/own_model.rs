//! Models and data of one's own by one command: a folder that timm saved, methods with options, seeds and rates on the
//! command line, and the experiment file that says the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{Bench, SYNTHETIC, done, refusal};
use report::record::Record;
use serde_json::{Value, json};

const EXPERIMENT: i32 = 3;
const DATA: i32 = 4;
const WEIGHTS: i32 = 5;

fn picture(path: &Path, shade: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixel = |x: u32, y: u32| image::Rgb([shade, (x * 3) as u8, (y * 3) as u8]);
    image::RgbImage::from_fn(60, 50, pixel).save(path).unwrap();
}

/// A bench with the experiments for one's own data, a folder of pictures in two classes, and a model that timm saved.
fn bench() -> Bench {
    let bench = Bench::new(SYNTHETIC);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::create_dir(bench.path("experiments")).unwrap();
    for name in ["classification", "instruction_following", "visual_question_answering"] {
        let file = Path::new("experiments").join(name).with_extension("yaml");
        std::fs::copy(root.join(&file), bench.path(&file)).unwrap();
    }
    for index in 0..20_u8 {
        let class = if index < 10 { "cat" } else { "dog" };
        picture(&bench.path(format!("photos/{class}/{index}.png")), index * 10);
    }
    let saved = root.join("crates/backbones/tests/fixtures/timm/vit");
    std::fs::create_dir_all(bench.path("models/own_vit")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(saved.join(name), bench.path("models/own_vit").join(name)).unwrap();
    }
    bench
}

/// `san <command> classification --set photos --model models/own_vit` with further options.
fn with<'a>(command: &'a str, further: &[&'a str]) -> Vec<&'a str> {
    [&[command, "classification", "--set", "photos", "--model", "models/own_vit"], further].concat()
}

#[test]
fn a_first_comparison_of_ones_own_needs_no_experiment_file() {
    let bench = bench();
    let chosen =
        ["--method", "san", "--method", "lora(rank=2)", "--method", "lora(rank=4)", "--method", "linear"];
    let further =
        ["--seeds", "0,5", "--epochs", "3", "--learning-rate", "1e-3", "--save-experiment", "own.yaml"];
    let arguments = with("run", &[&chosen[..], &further].concat());
    let printed = done(&bench, &arguments);
    assert!(
        printed.contains("images for own_vit as in its own training: 48 px, centre crop of 0.95"),
        "{printed}"
    );
    for row in ["SAN", "LoRA r=2", "LoRA r=4", "Linear", "no tuning: every setting is fixed"] {
        assert!(printed.contains(row), "no `{row}` in: {printed}");
    }
    let folders = std::fs::read_dir(bench.path("results/runs/classification/own")).unwrap();
    let files = folders.map(|folder| folder.unwrap().path().join("record.json"));
    let finals = files.filter(|file| file.is_file()).map(|file| Record::read(&file).unwrap());
    let records: Vec<Record> = finals.collect();
    assert_eq!(records.len(), 8);
    assert!(records.iter().all(|record| record.backbone.name == "own_vit" && [0, 5].contains(&record.seed)));
    let image = &records[0].protocol["classification"]["image"];
    assert_eq!(
        image["normalisation"],
        json!({"statistics": {"mean": [0.4, 0.45, 0.5], "std": [0.25, 0.26, 0.27]}})
    );

    // The file says the same: its runs are the same ones.
    let printed = done(&bench, &["plan", "own.yaml"]);
    assert!(printed.contains("= 8 runs; 8 done"), "{printed}");
    assert!(done(&bench, &arguments).contains("8 done"), "the same file may be written again");
    let other = with("plan", &["--save-experiment", "own.yaml"]);
    assert!(refusal(&bench.run(&other), 2).contains("own.yaml exists"));
}

#[test]
fn lists_of_the_form_of_vtab_are_compared_on_the_same_model() {
    let bench = bench();
    let line = |index: usize| format!("photos/{}/{index}.png {}\n", ["cat", "dog"][index / 10], index / 10);
    let lists = [("train800", 0), ("val200", 1), ("test", 2)];
    for (list, part) in lists {
        let lines: String = (0..20).filter(|index| index % 3 == part).map(line).collect();
        std::fs::write(bench.path(format!("{list}.txt")), lines).unwrap();
    }
    let both: String = (0..20).filter(|index| index % 3 < 2).map(line).collect();
    std::fs::write(bench.path("train800val200.txt"), both).unwrap();
    let methods = ["--method", "san", "--method", "lora", "--method", "linear", "--learning-rate", "1e-3"];
    let common =
        ["run", "classification", "--set", ".", "--model", "models/own_vit", "--seeds", "0", "--epochs", "3"];
    let printed = done(&bench, &[&common[..], &methods].concat());
    for part in ["own split", "SAN", "LoRA", "Linear"] {
        assert!(printed.contains(part), "no `{part}` in: {printed}");
    }
}

#[test]
fn settings_that_do_not_fit_are_named() {
    let bench = bench();
    for (further, code, reason) in [
        (&["--method", "vpt"][..], EXPERIMENT, "no learning rate for `vpt`: add --learning-rate"),
        (&["--method", "lora(rank=2, learning_rate=[1e-3, 2e-3])", "--method", "san"], EXPERIMENT, "2 and"),
        (&["--method", "san", "--method", "san"], EXPERIMENT, "the same place in the table"),
        (&["--method", "lora(size=2)"], 2, "size"),
        (&["--method", "san", "--methods", "san"], 2, "cannot be used with"),
        (&["--learning-rate", "0"], EXPERIMENT, "learning"),
        (&["--profile", "embedded"], EXPERIMENT, "no profile `embedded`; the file has own"),
    ] {
        let said = refusal(&bench.run(&with("plan", further)), code);
        assert!(said.contains(reason), "{further:?}: {said}");
    }
}

#[test]
fn a_model_folder_that_cannot_be_used_is_refused_in_one_sentence() {
    let bench = bench();
    let path = bench.path("models/own_vit/config.json");
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut config = saved.clone();
        change(&mut config);
        std::fs::write(&path, config.to_string()).unwrap();
        refusal(&bench.run(&with("plan", &[])), WEIGHTS)
    };
    let said = changed(&|config| config["architecture"] = "resnet50".into());
    assert!(said.contains("config.json") && said.contains("`resnet50` is not one of timm's"), "{said}");
    let said = changed(&|config| config["model_args"]["qk_norm"] = true.into());
    assert!(said.contains("`qk_norm` is true"), "{said}");
    let said = changed(&|config| config["model_args"]["depth"] = 3.into());
    assert!(said.contains("blocks.2."), "{said}");
    let said = changed(&|config| config["pretrained_cfg"]["interpolation"] = "lanczos".into());
    assert!(said.contains("`interpolation` is lanczos") && said.contains("give `image`"), "{said}");
    let said = changed(&|config| config["pretrained_cfg"] = Value::Null);
    assert!(said.contains("no `pretrained_cfg`"), "{said}");
    std::fs::write(&path, "{").unwrap();
    assert!(refusal(&bench.run(&with("plan", &[])), WEIGHTS).contains("config.json"));
    let said = refusal(&bench.run(&["plan", "classification", "--model", "models/other"]), WEIGHTS);
    assert!(said.contains("models/other"), "{said}");
    std::fs::rename(
        bench.path("models/own_vit/model.safetensors"),
        bench.path("models/own_vit/pytorch_model.bin"),
    )
    .unwrap();
    std::fs::write(&path, saved.to_string()).unwrap();
    let said = refusal(&bench.run(&with("plan", &[])), WEIGHTS);
    assert!(said.contains("python tools/convert_weights.py models/own_vit"), "{said}");
}

#[test]
fn images_that_cannot_be_used_are_refused_in_one_sentence() {
    let bench = bench();
    let refused = |folder: &str| {
        let arguments = ["plan", "classification", "--set", folder];
        refusal(&bench.run(&arguments), DATA)
    };
    picture(&bench.path("one/cat/1.png"), 1);
    assert!(refused("one").contains("it has 1 classes; at least two are needed"), "{}", refused("one"));
    std::fs::create_dir_all(bench.path("photos/bird")).unwrap();
    let said = refused("photos");
    assert!(said.contains("bird") && said.contains("no image"), "{said}");
    (0..20).for_each(|index| picture(&bench.path(format!("sheet/images/{index}.png")), index));
    let split = |index: u8| ["cat,train", "dog,train", "cat,test"][usize::from(index % 3)];
    let rows: String = (0..20).map(|index| format!("images/{index}.png,{}\n", split(index))).collect();
    let sheet = |last: &str| {
        std::fs::write(bench.path("sheet/labels.csv"), format!("path,label,split\n{rows}{last}\n")).unwrap();
    };
    sheet("images/99.png,dog,test");
    assert!(refused("sheet").contains("labels.csv:22") && refused("sheet").contains("images/99.png"));
    sheet("images/0.png,cat,test");
    let said = refused("sheet");
    assert!(said.contains("images/0.png") && said.contains("already listed"), "{said}");
}

/// The scores that `san evaluate --json` prints.
fn scores(bench: &Bench, arguments: &[&str]) -> Vec<f64> {
    let printed = done(bench, &[&["evaluate"], arguments, &["--json"]].concat());
    let document: Value = serde_json::from_str(&printed).unwrap();
    document["scores"].as_array().unwrap().iter().map(|one| one["score"].as_f64().unwrap()).collect()
}

fn only_run(bench: &Bench, experiment: &str) -> std::path::PathBuf {
    let folders = std::fs::read_dir(bench.path(format!("results/runs/{experiment}/own"))).unwrap();
    let mut runs =
        folders.map(|folder| folder.unwrap().path()).filter(|path| path.join("record.json").is_file());
    let run = runs.next().unwrap();
    assert!(runs.next().is_none());
    run
}

#[test]
fn an_adapter_of_peft_is_evaluated_and_trained_further() {
    let bench = bench();
    let lora = ["--method", "lora(rank=2)", "--learning-rate", "1e-2", "--seeds", "0", "--epochs", "3"];
    done(&bench, &with("run", &lora));
    let run = only_run(&bench, "classification");
    let record = Record::read(&run.join("record.json")).unwrap();
    done(&bench, &["export", run.to_str().unwrap(), "--output", "peft"]);
    let on = ["--model", "models/own_vit", "--set", "photos"];
    for adapter in ["peft", run.to_str().unwrap()] {
        assert_eq!(scores(&bench, &[&[adapter], &on[..]].concat()), [record.metrics.accuracy.unwrap()]);
    }

    let further = "lora(adapter=peft)";
    let printed =
        done(&bench, &with("run", &["--method", further, "--learning-rate", "1e-9", "--epochs", "3"]));
    assert!(printed.contains(", from peft"), "{printed}");
    let folders = std::fs::read_dir(bench.path("results/runs/classification/own")).unwrap();
    let files = folders.map(|folder| folder.unwrap().path().join("record.json"));
    let records: Vec<_> =
        files.filter(|file| file.is_file()).map(|file| Record::read(&file).unwrap()).collect();
    let further: Vec<_> =
        records.iter().filter(|record| record.protocol["learning_rate"].as_f64() < Some(1e-6)).collect();
    assert_eq!(further.len(), 3);
    // At this rate it stays where it starts.
    assert!(further.iter().all(|other| other.metrics.accuracy == record.metrics.accuracy));

    let said = refusal(&bench.run(&with("plan", &["--method", "lora(rank=3, adapter=peft)"])), WEIGHTS);
    assert!(said.contains("its `rank` is 4, and the experiment has 3"), "{said}");
    std::fs::create_dir_all(bench.path("photos/bird")).unwrap();
    picture(&bench.path("photos/bird/1.png"), 7);
    let said = refusal(&bench.run(&[&["evaluate", "peft"], &on[..]].concat()), DATA);
    assert!(said.contains("3 classes") && said.contains("has 2 classes"), "{said}");
}

#[test]
fn rows_of_ones_own_are_trained_on_and_answers_are_found() {
    let bench = bench();
    let row = |index: usize| {
        let answer = ["true", "false"][index % 2];
        let text = json!({"instruction": format!("Is {index} even?"), "output": format!("It is {answer}"), "answer": answer});
        text.to_string() + "\n"
    };
    std::fs::write(bench.path("numbers.jsonl"), (0..20).map(row).collect::<String>()).unwrap();
    let said = done(&bench, &["inspect", "numbers.jsonl"]);
    assert!(said.contains("answers false, true") && said.contains("16 / 2 / 2 rows"), "{said}");
    let chosen = [
        "--method",
        "frozen",
        "--method",
        "lora(rank=2, alpha=4)",
        "--method",
        "san",
        "--learning-rate",
        "1e-3",
    ];
    let common = ["run", "instruction_following", "--set", "numbers.jsonl", "--seeds", "3", "--epochs", "1"];
    let printed = done(&bench, &[&common[..], &chosen].concat());
    for part in ["numbers", "SAN", "LoRA", "Zero-shot", "accuracy of the answer"] {
        assert!(printed.contains(part), "no `{part}` in: {printed}");
    }
    std::fs::write(bench.path("numbers.jsonl"), "{\"instruction\": \"a\"}\n").unwrap();
    let said = refusal(&bench.run(&common), DATA);
    assert!(said.contains("numbers.jsonl") && said.contains("neither an output nor an answer"), "{said}");
}

#[test]
fn questions_about_ones_own_images_are_trained_on_and_asked() {
    let bench = bench();
    let asked = |index: usize| {
        let class = if index < 10 { "cat" } else { "dog" };
        json!({"id": index.to_string(), "image": format!("{class}/{index}.png"), "conversations": [
            {"from": "human", "value": "<image>\nWhich animal is it?"},
            {"from": "gpt", "value": class},
        ]})
    };
    let lines: String = (0..20).map(|index| asked(index).to_string() + "\n").collect();
    std::fs::write(bench.path("photos/animals.jsonl"), lines).unwrap();
    let said = done(&bench, &["inspect", "photos/animals.jsonl"]);
    assert!(said.contains("16 / 2 / 2 single questions") && said.contains("Which animal is it?"), "{said}");
    assert!(bench.path("animals.png").is_file());
    let chosen = ["--method", "lora(rank=2, alpha=4)", "--method", "san", "--learning-rate", "1e-3"];
    let common = [
        "run",
        "visual_question_answering",
        "--set",
        "photos/animals.jsonl",
        "--seeds",
        "0",
        "--epochs",
        "1",
    ];
    let printed = done(&bench, &[&common[..], &chosen].concat());
    for part in
        ["animals", "SAN", "LoRA", "exact match", "images for llava_micro as in its own training: 32 px"]
    {
        assert!(printed.contains(part), "no `{part}` in: {printed}");
    }
}
