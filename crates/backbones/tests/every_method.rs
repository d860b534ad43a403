//! Properties of every registered method on every backbone: initial output, stacked runs, gradients, merging,
//! files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{Fixture, Model, Tuned, assert_close, method, tuned};
use san_core::adapters::file::{self as adapter_file, AdapterHeader};
use san_core::adapters::merge::merge;
use san_core::methods::{Method, REGISTRY};
use san_core::nn::builder::AdapterSet;
use san_core::{Error, Weights};
use serde_json::{Value, json};
use tch::{Kind, Tensor, no_grad};

/// A ViT, a Swin, a ConvNeXt, and a LLaMA and a Qwen2 with grouped-query attention.
const FAMILIES: [&str; 5] =
    ["san_base", "swin_shifted", "convnext_small_stem", "llama_grouped", "qwen2_small"];

/// Every registered method at least once, and every option that changes what it computes.
fn cases() -> Vec<(&'static str, Value)> {
    let all = json!(["qkv", "q", "k", "v", "proj", "gate", "up", "down", "downsample"]);
    let cases = vec![
        ("frozen", json!({})),
        ("linear", json!({})),
        ("fft", json!({})),
        ("bitfit", json!({})),
        ("norm", json!({})),
        ("lora", json!({"rank": 2, "targets": ["q", "v"]})),
        ("lora", json!({"rank": 2, "targets": all, "scaling": "rank_stabilised"})),
        ("lora", json!({"rank": 2, "targets": ["v", "down"], "init": "pissa"})),
        ("lora", json!({"rank": 2, "targets": ["q", "up"], "dropout": 0.2})),
        ("dora", json!({"rank": 2, "targets": ["v", "up"]})),
        ("dora", json!({"rank": 2, "targets": ["v", "up"], "dropout": 0.2})),
        ("dora", json!({"rank": 2, "targets": all, "detach_norm": false})),
        ("ia3", json!({})),
        ("vera", json!({"rank": 3, "targets": ["k", "down"]})),
        ("ssf", json!({})),
        ("adapter", json!({"bottleneck": 3})),
        ("adaptformer", json!({"bottleneck": 3})),
        ("vpt", json!({"prompts": 3})),
        ("vpt", json!({"prompts": 3, "deep": false})),
        ("san", json!({})),
        ("san", json!({"mode": "nt"})),
        ("san", json!({"mode": "sp", "wiring": "full"})),
        ("san", json!({"wiring": "authors_resize", "ltd_ltp": true})),
        ("san", json!({"wiring": "full", "shift": true})),
        ("san", json!({"wiring": "full", "detach": true})),
        ("san_lora", json!({"host": {"rank": 2, "targets": all}})),
        ("san_dora", json!({"host": {"rank": 2, "targets": all, "detach_norm": false}})),
        ("san_ssf", json!({"wiring": "authors"})),
    ];
    assert!(REGISTRY.iter().all(|entry| cases.iter().any(|(name, _)| *name == entry.name)));
    cases
}

/// Each case on each family that it is compatible with; the others must be rejected with a reason.
fn for_each_compatible(act: impl Fn(&str, &Fixture, &dyn Method)) {
    for family in FAMILIES {
        let fixture = Fixture::read(family);
        for (name, options) in cases() {
            let method = method(name, options.clone());
            match method.trainables(&fixture.config.model_spec(family)) {
                Ok(_) => act(&format!("{name} {options} on {family}"), &fixture, &*method),
                Err(Error::Incompatible { reason, .. }) => {
                    // Windows and convolutions have no single token sequence; ConvNeXt has no queries and
                    // values.
                    let prompts = name == "vpt" && family != "san_base";
                    let attention = family == "convnext_small_stem" && reason.contains("roles q, v");
                    // A language model has no head and LLaMA no bias; a classifier needs a head.
                    let language = ["llama_grouped", "qwen2_small"].contains(&family);
                    let head_or_bias = match name {
                        "frozen" => !language,
                        "linear" => language,
                        "bitfit" => family == "llama_grouped",
                        _ => false,
                    };
                    assert!(prompts || attention || head_or_bias, "{name} {options} on {family}: {reason}");
                }
                Err(other) => panic!("{name} on {family}: {other}"),
            }
        }
    }
}

fn start(fixture: &Fixture, method: &dyn Method, runs: usize) -> Tuned {
    tuned(&fixture.config, fixture, method, &(0..runs).map(|_| BTreeMap::new()).collect::<Vec<_>>())
}

/// The same, with its trained tensors perturbed.
fn perturbed(fixture: &Fixture, method: &dyn Method, runs: usize) -> Tuned {
    let ours = start(fixture, method, runs);
    tch::manual_seed(7);
    let noise = ours.trainables.values().randn_like() * 0.1;
    no_grad(|| ours.trainables.values().shallow_clone().f_add_(&noise).map(drop)).unwrap();
    ours
}

#[test]
fn a_method_starts_as_the_frozen_model_unless_its_paper_says_otherwise() {
    for_each_compatible(|case, fixture, method| {
        let logits = start(fixture, method, 1).model.forward(fixture.get("input"));
        let difference = f64::try_from((logits - fixture.get("logits")).abs().max()).unwrap();
        // Random initialisation as published: scales and shifts of SSF, prompts of VPT.
        let exact = !["ssf", "vpt", "san_ssf"].contains(&method.name());
        assert_eq!(difference < 1e-4, exact, "{case}: {difference:.1e}");
    });
}

#[test]
fn a_stack_of_two_runs_matches_separate_runs() {
    for_each_compatible(|case, fixture, method| {
        let stacked = perturbed(fixture, method, 2);
        let input = fixture.get("input");
        let together = stacked.model.forward(&Tensor::cat(&[input, input], 0));
        let gradient = (stacked.trainables.values().numel() > 0)
            .then(|| stacked.trainables.gradient(&together.square().sum(None)).unwrap());
        for run in 0..2 {
            let alone = start(fixture, method, 1);
            let row = stacked.trainables.values().narrow(0, run, 1);
            no_grad(|| alone.trainables.values().shallow_clone().copy_(&row));
            let logits = alone.model.forward(input);
            let scale = f64::try_from(logits.abs().max()).unwrap().max(1.0);
            assert_close(case, &together.narrow(0, 2 * run, 2), &logits, 1e-5 * scale);
            if alone.trainables.values().numel() == 0 {
                continue;
            }
            let single = alone.trainables.gradient(&logits.square().sum(None)).unwrap();
            let scale = f64::try_from(single.abs().max()).unwrap().max(1.0);
            let row = gradient.as_ref().unwrap().narrow(0, run, 1);
            assert_close(case, &row, &single, 1e-4 * scale);
        }
    });
}

#[test]
fn a_stacked_run_trains_like_a_separate_one_and_dropout_applies_only_in_training() {
    let fixture = Fixture::read("llama_grouped");
    let input = fixture.get("input");
    for name in ["lora", "dora", "san_lora", "san_dora"] {
        let options = json!({"rank": 2, "targets": ["q", "v", "up", "down"], "dropout": 0.2});
        let options = if name.starts_with("san") { json!({"host": options}) } else { options };
        let method = method(name, options);
        let stacked = perturbed(&fixture, &*method, 2);
        let alone = start(&fixture, &*method, 1);
        let row = stacked.trainables.values().narrow(0, 0, 1);
        no_grad(|| alone.trainables.values().shallow_clone().copy_(&row));
        let train = |model: &Tuned, input: &Tensor| {
            model.trainables.pass().training(3, || model.model.forward(input))
        };
        let first = train(&stacked, &Tensor::cat(&[input, input], 0)).narrow(0, 0, input.size()[0]);
        let single = train(&alone, input);
        assert_close(name, &first, &single, 1e-4);
        let inference = alone.model.forward(input);
        assert!(f64::try_from((&inference - single).abs().max()).unwrap() > 1e-3, "{name}");
        assert_eq!(inference, alone.model.forward(input), "{name}");
    }
}

#[test]
fn merged_weights_match_the_adapted_model_or_merging_is_rejected() {
    for_each_compatible(|case, fixture, method| {
        let ours = perturbed(fixture, method, 2);
        let merged = |run| merge(&ours.model_spec, &ours.weights, &ours.adapters, &ours.trainables, run);
        if method.unmergeable().is_some() {
            assert!(matches!(merged(0), Err(Error::Unmergeable { .. })), "{case}");
            return;
        }
        let input = fixture.get("input");
        let logits = ours.model.forward(&Tensor::cat(&[input, input], 0));
        for run in 0..2 {
            let plain = fixture.config.merged(&ours.model_spec, &merged(run).unwrap());
            let scale = f64::try_from(logits.abs().max()).unwrap().max(1.0);
            assert_close(case, &plain.forward(input), &logits.narrow(0, 2 * run, 2), 1e-4 * scale);
        }
    });
}

#[test]
fn an_adapter_file_restores_logits_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.safetensors");
    for_each_compatible(|case, fixture, method| {
        let ours = perturbed(fixture, method, 1);
        let header = AdapterHeader {
            method: method.name().into(),
            options: method.options().unwrap().into(),
            backbone: "test".into(),
            base_checksum: "base".into(),
            classes: 5,
        };
        adapter_file::write(&path, &header, &ours.trainables).unwrap();
        let header = adapter_file::read_header(&path).unwrap();
        let again = common::method(&header.method, header.options);
        let other = start(fixture, &*again, 1);
        adapter_file::read_into(&path, "base", &other.trainables).unwrap();
        let input = fixture.get("input");
        assert_eq!(ours.model.forward(input), other.model.forward(input), "{case}");
    });
}

/// The model in f64, for a gradient check.
fn in_f64(ours: &Tuned, fixture: &Fixture, method: &dyn Method) -> (san_core::Trainables, Model) {
    let double = |(name, tensor): (&str, &Tensor)| (name.to_owned(), tensor.to_kind(Kind::Double));
    let weights = Weights::new(ours.weights.iter().map(double).collect());
    let trainables = ours.trainables.to_kind(Kind::Double).unwrap();
    let adapters: AdapterSet = method.attach(&ours.model_spec, &weights, &trainables).unwrap();
    let model = fixture.config.model(&ours.model_spec, &weights, &adapters, &trainables);
    (trainables, model)
}

#[test]
fn gradients_match_finite_differences_in_f64() {
    for_each_compatible(|case, fixture, method| {
        // Gradients with detached parts differ from finite differences by definition; they are compared with
        // torch's in tests/methods.rs.
        let options = method.options().unwrap();
        let detached = |option: &str| options.get(option) == Some(&true.into());
        if detached("detach") || detached("detach_norm") {
            return;
        }
        let ours = perturbed(fixture, method, 1);
        if ours.trainables.values().numel() == 0 {
            return;
        }
        let (trainables, model) = in_f64(&ours, fixture, method);
        let (input, probe) = (fixture.get("input").to_kind(Kind::Double), fixture.get("probe"));
        let loss = || (model.forward(&input) * probe).sum(None);
        let gradient = trainables.gradient(&loss()).unwrap();
        let step = 1e-5;
        let mut offset = 0;
        for (spec, _) in trainables.iter() {
            let columns = |tensor: &Tensor| tensor.narrow(1, offset, spec.count());
            let direction = columns(&gradient).randn_like();
            let direction = &direction / direction.norm();
            let expected = f64::try_from((columns(&gradient) * &direction).sum(None)).unwrap();
            let loss_after_shift = |by: f64| {
                let values = columns(trainables.values());
                no_grad(|| values.shallow_clone().f_add_(&(&direction * by)).map(drop)).unwrap();
                f64::try_from(no_grad(loss)).unwrap()
            };
            let difference = loss_after_shift(step) - loss_after_shift(-2.0 * step);
            loss_after_shift(step);
            let found = difference / (2.0 * step);
            let scale = f64::try_from(columns(&gradient).norm()).unwrap().max(1.0);
            let error = (found - expected).abs() / scale;
            assert!(error < 1e-6, "{case}: `{}` {found} {expected} {error:.1e}", spec.name);
            offset += spec.count();
        }
    });
}
