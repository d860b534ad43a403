//! AdamW, clipping, averages and schedules against torch, timm and transformers, step for step (tools/optimiser_fixtures.py).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use san_core::io::safetensors::TensorFile;
use san_core::spec::init::Init;
use san_core::spec::trainable::{Group, TrainableSpec};
use san_core::train::adamw::{AdamW, AdamWSettings};
use san_core::train::clipping::clip_gradient;
use san_core::train::ema::Ema;
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

/// Two runs with the gradients of the fixture, those of the second in reverse, with clipping and an average; the values
/// and the averages after each step. With `interrupted_at` the state is copied into new objects after that step.
fn clipped(runs: &[bool], interrupted_at: Option<i64>) -> Vec<(Tensor, Tensor)> {
    let file = TensorFile::read(&fixture("clipped.safetensors")).unwrap();
    let get = |name: &str| &file.tensors[name];
    let number = |name: &str| file.metadata[name].parse::<f64>().unwrap();
    let settings = AdamWSettings { weight_decay: 0.05, ..AdamWSettings::default() };
    let seeds: Vec<u64> = (0..runs.len() as u64).collect();
    let fresh = || {
        let trainables = Trainables::allocate(specs(true), &seeds, &Weights::default(), Device::Cpu).unwrap();
        no_grad(|| trainables.values().shallow_clone().copy_(get("start")));
        let optimiser = AdamW::new(&trainables, settings).unwrap();
        let ema = Ema::new(&trainables, number("decay")).unwrap();
        (trainables, optimiser, ema)
    };
    let (mut trainables, mut optimiser, mut ema) = fresh();
    let mut after = Vec::new();
    for step in 0..20 {
        if interrupted_at == Some(step) {
            let (new, mut other, mut average) = fresh();
            no_grad(|| new.values().shallow_clone().copy_(trainables.values()));
            let (first, second) = optimiser.moments();
            other.restore(first, second, step as u64).unwrap();
            average.restore(ema.values()).unwrap();
            (trainables, optimiser, ema) = (new, other, average);
        }
        let of_run = |reversed: &bool| get("gradients").get(if *reversed { 19 - step } else { step });
        let gradient = Tensor::stack(&runs.iter().map(of_run).collect::<Vec<_>>(), 0);
        let norms = gradient.norm_scalaropt_dim(2.0, [1].as_slice(), false);
        clip_gradient(&gradient, &norms, number("max_norm")).unwrap();
        let rate = get("learning_rates").double_value(&[step]);
        optimiser.step(&trainables, &gradient, &rates(&trainables, rate), None).unwrap();
        ema.update(&trainables).unwrap();
        after.push((trainables.values().copy(), ema.values().copy()));
    }
    after
}

#[test]
fn clipping_and_averages_match_torch_and_timm() {
    let file = TensorFile::read(&fixture("clipped.safetensors")).unwrap();
    for (step, (values, average)) in (0..).zip(clipped(&[false], None)) {
        // The two averages of timm differ by 1e-6 from each other, by rounding.
        for (ours, name, tolerance) in
            [(&values, "parameters", 4e-7), (&average, "ema_v2", 2e-6), (&average, "ema_v3", 2e-6)]
        {
            let difference = (ours.get(0) - file.tensors[name].get(step)).abs().max();
            assert!(f64::try_from(difference).unwrap() < tolerance, "{name}, step {step}");
        }
    }
}

#[test]
fn each_run_of_a_stack_is_clipped_by_its_own_norm_and_has_its_own_average() {
    let (both, one, other) = (clipped(&[false, true], None), clipped(&[false], None), clipped(&[true], None));
    assert_ne!(one.last(), other.last());
    for ((both, one), other) in both.iter().zip(&one).zip(&other) {
        for (alone, run) in [(one, 0), (other, 1)] {
            assert_eq!(both.0.get(run), alone.0.get(0));
            assert_eq!(both.1.get(run), alone.1.get(0));
        }
    }
}

#[test]
fn clipping_and_averages_continue_bit_for_bit_after_an_interruption() {
    assert_eq!(clipped(&[false, true], None).last(), clipped(&[false, true], Some(7)).last());
}

#[test]
fn an_average_that_is_swapped_in_twice_leaves_everything_as_it_was() {
    let trainables = Trainables::allocate(specs(true), &[0], &Weights::default(), Device::Cpu).unwrap();
    let mut ema = Ema::new(&trainables, 0.5).unwrap();
    let _ = no_grad(|| trainables.values().shallow_clone().fill_(1.0));
    ema.update(&trainables).unwrap();
    let mean = |tensor: &Tensor| f64::try_from(tensor.mean(None)).unwrap();
    ema.swap(&trainables).unwrap();
    assert_eq!((mean(trainables.values()), mean(ema.values())), (0.5, 1.0));
    assert_eq!(mean(&trainables.get("matrix").unwrap()), 0.5, "the model's own views too");
    ema.swap(&trainables).unwrap();
    assert_eq!((mean(trainables.values()), mean(ema.values())), (1.0, 0.5));
}

#[test]
fn the_cosine_schedule_matches_timm_per_step_and_per_epoch_with_and_without_warmup_prefix() {
    let text = std::fs::read_to_string(fixture("schedule.json")).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let number = |name: &str| case[name].as_f64().unwrap();
        let warmup_steps = case["warmup_t"].as_u64().unwrap();
        let warmup_prefix = case["warmup_prefix"].as_bool().unwrap();
        let schedule = Cosine {
            base: number("lr"),
            warmup_start: number("warmup_lr_init"),
            warmup_steps,
            floor: number("lr_min"),
            steps: case["t_initial"].as_u64().unwrap() + if warmup_prefix { warmup_steps } else { 0 },
            warmup_prefix,
        };
        for (step, rate) in case["learning_rates"].as_array().unwrap().iter().enumerate() {
            let (ours, theirs) = (schedule.rate(step as u64), rate.as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-12, "step {step}: {ours} {theirs} {case}");
        }
    }
}

#[test]
fn the_cosine_schedule_matches_transformers() {
    let text = std::fs::read_to_string(fixture("cosine_schedule.json")).unwrap();
    let case: serde_json::Value = serde_json::from_str(&text).unwrap();
    let schedule = Cosine {
        base: case["lr"].as_f64().unwrap(),
        warmup_start: 0.0,
        warmup_steps: case["warmup"].as_u64().unwrap(),
        floor: 0.0,
        steps: case["steps"].as_u64().unwrap(),
        warmup_prefix: true,
    };
    for (step, rate) in case["learning_rates"].as_array().unwrap().iter().enumerate() {
        let (ours, theirs) = (schedule.rate(step as u64), rate.as_f64().unwrap());
        assert!((ours - theirs).abs() < 1e-15, "step {step}: {ours} {theirs}");
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

/// What is derived from trained tensors once a step is computed again when their version has changed.
#[test]
fn a_step_changes_the_version_of_the_trained_tensors() {
    let trainables = Trainables::allocate(specs(true), &[0, 1], &Weights::default(), Device::Cpu).unwrap();
    let mut optimiser = AdamW::new(&trainables, AdamWSettings::default()).unwrap();
    let before = torch_ops::version(trainables.values());
    let gradient = trainables.values().ones_like();
    optimiser.step(&trainables, &gradient, &rates(&trainables, 0.1), None).unwrap();
    assert_ne!(torch_ops::version(trainables.values()), before);
    let of_run = trainables.of_run(1).unwrap();
    let before = torch_ops::version(trainables.values());
    let _ = no_grad(|| of_run.values().shallow_clone().fill_(0.5));
    assert_ne!(torch_ops::version(trainables.values()), before);
}
