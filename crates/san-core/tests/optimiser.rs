//! AdamW and the schedule against torch and timm, step for step (tools/optimiser_fixtures.py).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use san_core::io::safetensors::TensorFile;
use san_core::spec::init::Init;
use san_core::spec::trainable::{Group, TrainableSpec};
use san_core::train::adamw::{AdamW, AdamWSettings};
use san_core::train::schedule::{Cosine, Linear};
use san_core::{Trainables, Weights};
use tch::{Device, Kind, Tensor, no_grad};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A 5 x 8 matrix, subject to weight decay, and ten numbers, which are too if `all_decay`.
fn specs(all_decay: bool) -> Vec<TrainableSpec> {
    let spec = |name: &str, shape: &[i64]| TrainableSpec {
        name: name.into(),
        shape: shape.to_vec(),
        init: Init::Zeros,
        group: Group::Method,
    };
    vec![spec("matrix", &[5, 8]), spec("rest", if all_decay { &[2, 5] } else { &[10] })]
}

/// The same learning rate for every run of a stack.
fn rates(trainables: &Trainables, rate: f64) -> Tensor {
    Tensor::full([trainables.stack(), 1], rate, (Kind::Float, Device::Cpu))
}

fn matches_torch(weight_decay: f64, expected: &str) {
    let file = TensorFile::read(&fixture("adamw.safetensors")).unwrap();
    let get = |name: &str| &file.tensors[name];
    let trainables = Trainables::allocate(specs(true), &[0], &Weights::default(), Device::Cpu).unwrap();
    no_grad(|| trainables.values().shallow_clone().copy_(&get("start").unsqueeze(0)));
    let settings = AdamWSettings { weight_decay, ..AdamWSettings::default() };
    let mut optimiser = AdamW::new(&trainables, settings).unwrap();
    for step in 0..20 {
        let rate = get("learning_rates").double_value(&[step]);
        let gradient = get("gradients").get(step).unsqueeze(0);
        optimiser.step(&trainables, &gradient, &rates(&trainables, rate), None).unwrap();
        let difference = (trainables.values().get(0) - get(expected).get(step)).abs().max();
        assert!(f64::try_from(difference).unwrap() < 2e-7, "step {step}");
    }
}

#[test]
fn adamw_without_weight_decay_matches_torch() {
    matches_torch(0.0, "wd0");
}

#[test]
fn adamw_with_weight_decay_matches_torch() {
    matches_torch(0.05, "wd0.05");
}

#[test]
fn a_factor_acts_like_a_different_learning_rate() {
    let in_group = |group| TrainableSpec { group, ..specs(true).remove(0) };
    let other = |group| TrainableSpec { name: "other".into(), ..in_group(group) };
    let start = |specs| {
        let trainables = Trainables::allocate(specs, &[0], &Weights::default(), Device::Cpu).unwrap();
        let _ = no_grad(|| trainables.values().shallow_clone().fill_(1.0));
        trainables
    };
    let settings = AdamWSettings { weight_decay: 0.1, ..AdamWSettings::default() };
    let both = start(vec![in_group(Group::Method), other(Group::ModulesToSave)]);
    let mut optimiser = AdamW::new(&both, settings).unwrap().with_module_factors(&both, &[0.25]).unwrap();
    let gradient = both.values().ones_like() * 0.3;
    (0..3).for_each(|_| optimiser.step(&both, &gradient, &rates(&both, 0.2), None).unwrap());
    for (name, rate) in [("matrix", 0.2), ("other", 0.05)] {
        let alone = start(vec![in_group(Group::Method)]);
        let mut optimiser = AdamW::new(&alone, settings).unwrap();
        let gradient = alone.values().ones_like() * 0.3;
        (0..3).for_each(|_| optimiser.step(&alone, &gradient, &rates(&alone, rate), None).unwrap());
        let difference = (both.get(name).unwrap() - alone.get("matrix").unwrap()).abs().max();
        assert!(f64::try_from(difference).unwrap() < 1e-6, "{name}");
    }
}

#[test]
fn each_run_of_a_stack_has_its_own_learning_rate() {
    let settings = AdamWSettings { weight_decay: 0.1, ..AdamWSettings::default() };
    let start = |seeds: &[u64]| {
        let trainables = Trainables::allocate(specs(false), seeds, &Weights::default(), Device::Cpu).unwrap();
        let _ = no_grad(|| trainables.values().shallow_clone().fill_(1.0));
        trainables
    };
    let train = |trainables: &Trainables, rates: &[f32]| {
        let mut optimiser = AdamW::new(trainables, settings).unwrap();
        let rates = Tensor::from_slice(rates).unsqueeze(1);
        for step in 1..4 {
            let gradient = trainables.values().ones_like() * f64::from(step);
            optimiser.step(trainables, &gradient, &rates, None).unwrap();
        }
    };
    let both = start(&[0, 1]);
    train(&both, &[0.2, 0.01]);
    for (run, rate) in [0.2, 0.01].into_iter().enumerate() {
        let alone = start(&[0]);
        train(&alone, &[rate]);
        assert_eq!(both.of_run(run as i64).unwrap().values(), alone.values(), "rate {rate}");
    }
}

#[test]
fn weight_decay_skips_one_dimensional_tensors() {
    let trainables = Trainables::allocate(specs(false), &[0], &Weights::default(), Device::Cpu).unwrap();
    let _ = no_grad(|| trainables.values().shallow_clone().fill_(1.0));
    let settings = AdamWSettings { weight_decay: 0.5, ..AdamWSettings::default() };
    let mut optimiser = AdamW::new(&trainables, settings).unwrap();
    optimiser.step(&trainables, &trainables.values().zeros_like(), &rates(&trainables, 0.1), None).unwrap();
    let value = |name: &str| f64::try_from(trainables.get(name).unwrap().mean(None)).unwrap();
    assert!((value("matrix") - 0.95).abs() < 1e-6);
    assert!((value("rest") - 1.0).abs() < 1e-9);
}

#[test]
fn the_cosine_schedule_matches_timm_with_warmup_prefix() {
    let text = std::fs::read_to_string(fixture("schedule.json")).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let case = cases.iter().find(|case| case["warmup_prefix"] == true).unwrap();
    let number = |name: &str| case[name].as_f64().unwrap();
    let warmup_steps = case["warmup_t"].as_u64().unwrap();
    let schedule = Cosine {
        base: number("lr"),
        warmup_start: number("warmup_lr_init"),
        warmup_steps,
        floor: number("lr_min"),
        steps: warmup_steps + case["t_initial"].as_u64().unwrap(),
    };
    for (step, rate) in case["learning_rates"].as_array().unwrap().iter().enumerate() {
        let (ours, theirs) = (schedule.rate(step as u64), rate.as_f64().unwrap());
        assert!((ours - theirs).abs() < 1e-12, "step {step}: {ours} {theirs}");
    }
}

#[test]
fn the_linear_schedule_matches_transformers() {
    let text = std::fs::read_to_string(fixture("linear_schedule.json")).unwrap();
    let case: serde_json::Value = serde_json::from_str(&text).unwrap();
    let schedule = Linear {
        base: case["lr"].as_f64().unwrap(),
        warmup_steps: case["warmup"].as_u64().unwrap(),
        steps: case["steps"].as_u64().unwrap(),
    };
    for (step, rate) in case["learning_rates"].as_array().unwrap().iter().enumerate() {
        let (ours, theirs) = (schedule.rate(step as u64), rate.as_f64().unwrap());
        assert!((ours - theirs).abs() < 1e-15, "step {step}: {ours} {theirs}");
    }
}
