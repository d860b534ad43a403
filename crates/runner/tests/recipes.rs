//! Published recipes: the fields of a protocol that they need have an effect and are recorded, and a table names what
//! deviates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{Bench, ROWS, SYNTHETIC, bench_on, done, refusal, row};
use serde_json::{Value, json};

fn records(bench: &Bench) -> Vec<Value> {
    let read = |run: std::path::PathBuf| {
        serde_json::from_slice(&std::fs::read(run.join("record.json")).unwrap()).unwrap()
    };
    bench.runs().into_iter().map(read).collect()
}

/// The learning rates of the steps of a run.
fn rates(run: &Path) -> Vec<f64> {
    let steps = std::fs::read_to_string(run.join("steps.jsonl")).unwrap();
    let rate = |line: &str| serde_json::from_str::<Value>(line).unwrap()["learning_rate"].as_f64().unwrap();
    steps.lines().map(rate).collect()
}

const SSF: &str = "classification:
        schedule: {warmup_from: 1.0e-7, floor: 1.0e-8, per: epoch, warmup_prefix: false, cooldown_epochs: 1}
        test_selected: {every: 2}";

#[test]
fn a_recipe_is_recorded_in_full_and_a_table_names_what_deviates() {
    let text = SYNTHETIC
        .replace("      - {method: linear, learning_rate: 1.0e-2}\n", "")
        .replace("{method: san, learning_rate: [1.0e-3, 1.0e-2]}", "{method: ssf, learning_rate: 5.0e-3}")
        .replace("[0, 1]", "[0]")
        .replace("epochs: 2", "epochs: 5\n      recipe: ssf\n      gradient_clipping: 1.0\n      ema: 0.5")
        .replace("classification:", SSF);
    let bench = Bench::new(&text);
    let printed = done(&bench, &["run", "vtab.yaml"]);
    let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for deviation in [
        "Deviates from ssf: gradient_clipping 1.0 instead of none",
        "epochs 5 instead of 110",
        "batch_size 16 instead of 64",
        "precision f32 instead of fp16 autocast",
        "reported last epoch instead of best epoch on test",
        "ema 0.5 instead of none",
    ] {
        assert!(printed.contains(deviation), "{deviation}: {printed}");
    }
    assert!(!printed.contains("schedule.floor 0.00000001 instead"), "{printed}");
    let protocol = &records(&bench)[0]["protocol"];
    assert_eq!(protocol["adamw"], json!({"betas": [0.9, 0.999], "epsilon": 1e-8, "state": "f32"}));
    let schedule = &protocol["classification"]["schedule"];
    assert_eq!((&schedule["per"], &schedule["decay"]), (&json!("epoch"), &json!("cosine")));
    // Two steps in each epoch: warm-up, then a cosine over four epochs from the start, then the floor.
    let rates = rates(&bench.runs()[0]);
    let cosine = |epoch: f64| 1e-8 + 0.5 * (5e-3 - 1e-8) * (1.0 + (std::f64::consts::PI * epoch / 4.0).cos());
    let expected = [1e-7, cosine(1.0), cosine(2.0), cosine(3.0), 1e-8];
    assert_eq!(rates.len(), 15);
    for (step, rate) in rates.iter().enumerate() {
        assert!((rate - expected[step / 3]).abs() < 1e-12, "{step}: {rates:?}");
    }
    let epochs = std::fs::read_to_string(bench.runs()[0].join("epochs.jsonl")).unwrap();
    let evaluated: Vec<bool> = epochs.lines().map(|line| line.contains("test_accuracy")).collect();
    assert_eq!(evaluated, [false, true, false, true, true]);
}

#[test]
fn an_unknown_recipe_and_numbers_out_of_range_are_refused() {
    for (field, reason) in [
        ("recipe: sff", "there is no recipe `sff`"),
        ("gradient_clipping: 0.0", "`gradient_clipping` is a norm"),
        ("ema: 1.0", "`ema` must be above 0 and below 1"),
        ("adamw: {betas: [0.9, 1.0]}", "`betas` must be"),
    ] {
        let bench = Bench::new(&SYNTHETIC.replace("epochs: 2", &format!("epochs: 2\n      {field}")));
        let refused = refusal(&bench.run(&["plan", "vtab.yaml"]), 3);
        assert!(refused.contains(reason), "{field}: {refused}");
    }
    for (field, reason) in [
        ("schedule: {floor: -1.0}", "`floor` must be at least 0"),
        ("schedule: {cooldown_epochs: 1}", "`cooldown_epochs` together"),
        ("augmentation: {shorter_side: 31}", "`shorter_side` must be at least"),
        ("test_selected: {every: 0}", "test_selected"),
    ] {
        let text = SYNTHETIC.replace("warmup_epochs: 1", &format!("warmup_epochs: 1\n        {field}"));
        let refused = refusal(&Bench::new(&text).run(&["plan", "vtab.yaml"]), 3);
        assert!(refused.contains(reason), "{field}: {refused}");
    }
}

#[test]
fn settings_of_single_sets_and_backbones_are_planned_and_recorded() {
    let text = SYNTHETIC
        .replace("[patch_camelyon]", "[patch_camelyon, svhn]")
        .replace("[0, 1]", "[0]")
        .replace(
            "    seeds:",
            "      - method: ssf\n        learning_rate: 1.0e-3\n        for_sets:\n          svhn: {learning_rate: \
             2.0e-3, protocol: {weight_decay: 0.5, classification: {drop_path: 0.1}}}\n    for_backbones: {vit_micro: \
             {protocol: {classification: {image: {normalisation: imagenet}}}}}\n    seeds:",
        );
    let bench = Bench::new(&text);
    let plan = done(&bench, &["plan", "vtab.yaml"]);
    assert!(plan.contains("vit_micro: classification.image.normalisation imagenet"), "{plan}");
    let own = "ssf on svhn: learning_rate 0.002, classification.drop_path 0.1, weight_decay 0.5";
    assert!(plan.contains(own), "{plan}");
    done(&bench, &["run", "vtab.yaml", "--methods", "ssf", "--group", "4"]);
    let found: Vec<_> = records(&bench)
        .iter()
        .map(|record| {
            let protocol = &record["protocol"];
            assert_eq!(protocol["classification"]["image"]["normalisation"], "imagenet");
            (
                record["dataset"]["name"] == "mini/svhn",
                protocol["learning_rate"].clone(),
                protocol["weight_decay"].clone(),
            )
        })
        .collect();
    assert_eq!(found.len(), 2);
    assert!(found.contains(&(true, json!(2e-3), json!(0.5))), "{found:?}");
    assert!(found.contains(&(false, json!(1e-3), json!(0.0))), "{found:?}");
}

#[test]
fn the_weights_with_the_lowest_held_out_loss_are_recorded_and_held_out_rows_are_not_trained_on() {
    let rows: Vec<Value> = (0..21).map(|n| row(&format!("is {n} even"), ["true", "false"][n % 2])).collect();
    let text = ROWS.replace("BACKBONE", "llama_micro").replace("epochs: 1", "epochs: 3");
    let with = |fields: &str| {
        let text = text.replace("          decoding", &format!("          {fields}\n          decoding"));
        let bench = bench_on(&text, &rows, &rows[..2]);
        done(&bench, &["run", "vtab.yaml"]);
        records(&bench).remove(0)
    };
    let record = with("select: {every_steps: 2, rows: 5, seed: 42}\n          batching: shuffled");
    let selected = &record["metrics"]["selected"];
    let step = selected["step"].as_u64().unwrap();
    assert!((2..=12).contains(&step) && step.is_multiple_of(2), "{selected}");
    // Sixteen of the 21 rows in batches of four.
    assert_eq!(record["metrics"]["steps"], 12);
    assert_eq!(record["metrics"]["evaluations"][0]["dataset"]["train"], 16);
    assert_eq!(record["protocol"]["reported"], "lowest held-out loss");
    assert!(with("batching: by_length")["metrics"].get("selected").is_none());
    let text = text.replace(
        "          decoding",
        "          select: {every_steps: 2, rows: 21, seed: 42}\n          decoding",
    );
    let refused = refusal(&bench_on(&text, &rows, &rows[..2]).run(&["run", "vtab.yaml"]), 3);
    assert!(refused.contains("lower `rows`"), "{refused}");
}

#[test]
fn a_method_is_run_only_on_the_backbones_that_it_names() {
    let text = SYNTHETIC.replace("[vit_micro]", "[vit_micro, swin_micro]").replace(
        "{method: linear, learning_rate: 1.0e-2}",
        "{method: vpt, learning_rate: 1.0e-2, backbones: [vit_micro]}",
    );
    let bench = Bench::new(&text);
    let plan = done(&bench, &["plan", "vtab.yaml"]);
    // Two seeds of VPT on one backbone, and of SAN on two.
    assert!(plan.contains("2 seeds in 6 runs"), "{plan}");
    let row = plan.lines().find(|line| line.contains("VPT")).unwrap();
    assert!(row.trim_end().ends_with('-'), "{row}");
    let bench = Bench::new(&text.replace("backbones: [vit_micro]}", "backbones: [vit_mikro]}"));
    let said = refusal(&bench.run(&["plan", "vtab.yaml"]), 3);
    assert!(said.contains("`backbones` of a method") && said.contains("vit_micro"), "{said}");
}
