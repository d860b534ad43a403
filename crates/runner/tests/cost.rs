//! The arithmetic of runs, and what `san plan` says about time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

mod common;

use std::path::Path;

use backbones::registry;
use backbones::workload::Tokens;
use common::{Bench, SYNTHETIC, done, refusal};
use runner::config::Selection;
use runner::config::experiment::Experiment;
use runner::cost::model::ModelSizes;
use runner::cost::work::GroupWork;
use runner::plan::Plan;
use runner::resources::Resources;
use runner::tasks::{Amounts, EvaluatedTexts, ImageAmounts, Run, TextAmounts, Texts};
use serde_json::Value;

/// The final runs of an experiment.
fn runs(experiment: &str, resources: &mut Resources) -> Vec<Run> {
    let experiment = Experiment::parse(experiment.as_bytes()).unwrap();
    let plan =
        Plan::resolve(&experiment, None, &Selection::default(), resources, Path::new("test"), false).unwrap();
    plan.finals.into_iter().map(|row| row.run).collect()
}

/// The work of two runs together on 48 training and 30 test images in batches of 16 for 2 epochs.
fn of_images(method: &str) -> GroupWork {
    let text = SYNTHETIC.replace("{method: linear, learning_rate: 1.0e-2}", method);
    let resources = &mut Resources::new(tch::Device::Cpu);
    let runs = runs(&text, resources);
    let amounts = ImageAmounts { trained: 48.0, evaluated: 30.0, evaluations: 1.0, augmented: false };
    let sizes = ModelSizes::of(&runs[0], &resources.models).unwrap();
    sizes.group(&runs[..2], &Amounts::Images(amounts)).unwrap()
}

fn assert_equal(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{found} is not {expected}");
}

#[test]
fn a_frozen_weight_costs_two_products_a_trained_one_three_and_a_method_those_of_its_matrices() {
    let model = registry::find("vit_micro").unwrap().architecture;
    let (work, spec) = (model.workload(), model.model_spec("vit_micro"));
    let forward = work.macs(&spec);
    let sites = forward - work.attention;
    let images = 16.0 * 2.0;
    let fft = of_images("{method: fft, learning_rate: 1.0e-2}");
    assert_equal(fft.steps, 6.0);
    assert_equal(fft.step.macs, images * 3.0 * forward);
    let bias = of_images("{method: bitfit, learning_rate: 1.0e-2}");
    assert_equal(bias.step.macs, images * (2.0 * sites + 3.0 * work.attention));
    // Rank 4 on queries and values of 64 channels, in 6 blocks of 17 tokens: 2 * 2 matrices of 4 x 64.
    let lora = of_images("{method: lora, learning_rate: 1.0e-2, options: {rank: 4}}");
    let own = 6.0 * 17.0 * 2.0 * 2.0 * 4.0 * 64.0;
    assert_equal(lora.step.macs - bias.step.macs, images * 3.0 * own);
    assert_equal(lora.evaluation.macs, 2.0 * (30.0 + 64.0) * (forward + own));
    // Ten prompts in each block are ten more tokens for its sites.
    let vpt = of_images("{method: vpt, learning_rate: 1.0e-2, options: {prompts: 10, deep: true}}");
    let blocks = sites - work.positions["patch_embed.proj"] * (3.0 * 8.0 * 8.0 * 64.0);
    assert_equal(vpt.step.macs - bias.step.macs, images * 3.0 * blocks * 10.0 / 17.0);
}

#[test]
fn the_features_of_a_frozen_backbone_are_computed_once() {
    let model = registry::find("vit_micro").unwrap().architecture;
    let forward = model.workload().macs(&model.model_spec("vit_micro"));
    let linear = of_images("{method: linear, learning_rate: 1.0e-2}");
    assert_equal(linear.preparation.macs, 78.0 * forward);
    assert_equal(linear.step.macs, 0.0);
    assert_equal(linear.images.once, 78.0);
}

#[test]
fn augmented_images_are_decoded_in_every_epoch_once_for_each_seed() {
    let resources = &mut Resources::new(tch::Device::Cpu);
    let text = SYNTHETIC.replace("method: linear", "method: bitfit");
    let runs = runs(&text, resources);
    let sizes = ModelSizes::of(&runs[0], &resources.models).unwrap();
    let amounts = ImageAmounts { trained: 48.0, evaluated: 30.0, evaluations: 1.0, augmented: true };
    let streamed = |runs: &[Run]| sizes.group(runs, &Amounts::Images(amounts)).unwrap().images.streamed;
    assert_equal(streamed(&runs[..2]), 48.0 * 2.0 * 2.0);
    assert_equal(streamed(&[runs[0].clone(), runs[0].clone()]), 48.0 * 2.0);
}

const TEXTS: &str = "
name: texts
suite: commonsense
profiles:
  embedded:
    data: {synthetic: {train: 40, val: 8, test: 8}}
    sets: [boolq]
    backbones: [llama_micro]
    methods:
      - {method: frozen}
      - {method: fft, learning_rate: 1.0e-3}
    seeds: [0]
    protocol:
      epochs: 2
      batch_size: 8
      instruction_following:
        examples: {max_length: 128, train_on_inputs: false, keep_answer: false}
        warmup_steps: 1
        language: {decoding: greedy, max_new_tokens: 4, evaluation: {sequences: 4}, MEMORY}
";

#[test]
fn recomputing_activations_costs_a_forward_pass_and_generation_reads_the_weights_for_each_token() {
    let amounts = Amounts::Texts(TextAmounts {
        steps: 6.0,
        trained: Texts { number: 48.0, length: 50.0, predicted: 3.0 },
        held_out: Texts::default(),
        held_out_passes: 0.0,
        evaluated: EvaluatedTexts {
            prompts: Texts { number: 8.0, length: 40.0, predicted: 1.0 },
            batches: 2.0,
            new_tokens: 4.0,
            sequences: 1.0,
        },
        tower: None,
    });
    let group = |memory: &str, method: usize| {
        let resources = &mut Resources::new(tch::Device::Cpu);
        let runs = runs(&TEXTS.replace("MEMORY", memory), resources);
        let sizes = ModelSizes::of(&runs[method], &resources.models).unwrap();
        (sizes.group(&runs[method..=method], &amounts).unwrap(), sizes.weight_bytes())
    };
    let (plain, weight_bytes) = group("memory: {gradient_checkpointing: false}", 1);
    let (again, _) = group("memory: {gradient_checkpointing: true}", 1);
    let (model, _) = registry::bundled_language("llama_micro").unwrap();
    let spec = model.model_spec("llama_micro");
    let work = model.workload(Tokens::text(50.0, 3.0));
    assert_equal(plain.steps, 12.0);
    assert_equal(plain.step.macs, 8.0 * 3.0 * work.macs(&spec));
    assert_equal(again.step.macs - plain.step.macs, 8.0 * (work.macs(&spec) - work.output));
    assert_equal(plain.evaluation.bytes, 2.0 * 4.0 * weight_bytes);
    let (halves, _) = group("memory: {micro_batch_size: 4}", 1);
    assert_equal(halves.step.launches, 2.0 * plain.step.launches);
    assert_equal(halves.step.macs, plain.step.macs);
    let (frozen, _) = group("memory: {gradient_checkpointing: false}", 0);
    assert_equal(frozen.steps, 0.0);
    assert_equal(frozen.evaluation.macs, plain.evaluation.macs);
}

fn plan(bench: &Bench, options: &[&str]) -> String {
    done(bench, &[&["plan", "vtab.yaml"], options].concat())
}

#[test]
fn a_plan_says_what_its_estimate_is_based_on_and_finished_runs_count_most() {
    let bench = Bench::new(SYNTHETIC);
    let text = plan(&bench, &[]);
    assert!(text.contains("6 by the built-in model") && text.contains("--calibrate measures"), "{text}");
    assert!(text.contains("for the remaining 6") && text.contains("disk: "), "{text}");
    done(&bench, &["run", "vtab.yaml", "--methods", "linear"]);
    let text = plan(&bench, &["--seeds", "0,1,2"]);
    assert!(text.contains("1 by finished runs of the same method"), "{text}");
    assert!(text.contains("5 by finished runs of other methods"), "{text}");
}

/// The part of `san plan --json` that is about time.
fn time_of(printed: &[u8]) -> Value {
    serde_json::from_slice::<Value>(printed).unwrap()["time"].clone()
}

#[test]
fn a_plan_for_another_machine_needs_neither_its_gpus_nor_data_nor_weights() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
    for suite in ["vtab", "fgvc", "gic", "commonsense", "vl"] {
        let text = std::fs::read_to_string(folder.join(suite).with_extension("yaml")).unwrap();
        let bench = Bench::new(&text);
        let arguments = ["plan", "vtab.yaml", "--profile", "paper", "--for", "8xH100", "--json"];
        let output = bench.run(&arguments);
        refusal(&output, 4);
        let time = time_of(&output.stdout);
        assert_eq!(time["unknown"], serde_json::json!([]), "{suite}");
        let hours = |field: &str| time[field].as_f64().unwrap() / 3600.0;
        let (all, wall) = (hours("worker_seconds"), hours("wall_seconds"));
        assert!(all > 10.0 && wall >= all / 8.0 * 0.99 && wall < all, "{suite}: {all} {wall}");
        // The same on GPUs that are slower and one that is alone.
        let slower = bench.run(&["plan", "vtab.yaml", "--profile", "paper", "--for", "A100", "--json"]);
        let slower = time_of(&slower.stdout);
        assert!(slower["worker_seconds"].as_f64().unwrap() / 3600.0 > all, "{suite}");
    }
}

/// Machines are noisy: the bounds are wide, and an estimate that is wrong in kind is outside.
#[test]
fn measured_steps_predict_the_time_of_a_run_within_a_factor() {
    let text = SYNTHETIC.replace("epochs: 2", "epochs: 30").replace("train: 24", "train: 120");
    let bench = Bench::new(&text.replace("test: 30", "test: 300").replace("[1.0e-3, 1.0e-2]", "1.0e-2"));
    let methods = ["--methods", "san", "--seeds", "0", "--workers", "1"];
    let text = plan(&bench, &[&methods[..], &["--calibrate"]].concat());
    assert!(text.contains("1 by measured steps"), "{text}");
    let text = plan(&bench, &[&methods[..], &["--json"]].concat());
    let time = time_of(text.as_bytes());
    let predicted = time["rows"]["vit_micro"]["SAN"]["seconds"].as_f64().unwrap();
    done(&bench, &[&["run", "vtab.yaml"], &methods[..]].concat());
    let record = report::Record::read(&bench.runs()[0].join("record.json")).unwrap();
    let cost = record.cost;
    let took = cost.train_seconds + cost.evaluate_seconds + cost.data_seconds;
    assert!((0.3..3.0).contains(&(predicted / took)), "predicted {predicted} s, took {took} s");
    let other = plan(&bench, &["--methods", "linear", "--seeds", "0", "--results", "elsewhere", "--json"]);
    assert!(other.contains("built_in"), "{other}");
}
