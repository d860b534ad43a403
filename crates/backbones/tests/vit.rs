//! ViT against timm: outputs and the gradient of every parameter for the same weights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::collections::BTreeMap;

use common::{Fixture, Tuned, assert_close, method, tuned};
use san_core::io::safetensors::write_tensors;
use serde_json::json;

const TOLERANCE: f64 = 1e-4;

fn fully_tuned(fixture: &Fixture) -> Tuned {
    tuned(&fixture.config, fixture, &*method("fft", json!({})), &[BTreeMap::new()])
}

fn matches_timm(name: &str) {
    let fixture = Fixture::read(name);
    let ours = fully_tuned(&fixture);
    let input = fixture.get("input");
    assert_close("features", &ours.model.features(input), fixture.get("features"), TOLERANCE);
    assert_close("logits", &ours.model.forward(input), fixture.get("logits"), TOLERANCE);
    let theirs = fixture.under("grad.");
    let gradients = ours.gradients(input, fixture.get("probe"));
    assert_eq!(gradients.len(), theirs.len());
    for (key, gradient) in &gradients {
        let expected = &theirs[key];
        if gradient.size() == expected.size() {
            assert_close(key, gradient, expected, TOLERANCE);
        } else {
            // timm resamples within the forward pass, we before it: backpropagate ours through the resampling.
            assert_eq!(key, "pos_embed");
            let stored = fixture.get("weights.pos_embed").detach().set_requires_grad(true);
            let one = san_core::Weights::new([(key.clone(), stored.shallow_clone())].into());
            let resampled = fixture.config.image().fit(one).unwrap();
            (resampled.get(key).unwrap() * gradient).sum(None).backward();
            assert_close(key, &stored.grad(), expected, TOLERANCE);
        }
    }
}

#[test]
fn a_class_token_model_matches_timm() {
    matches_timm("vit_class_token");
}

#[test]
fn the_unused_layer_before_the_head_in_older_files_is_not_read() {
    let fixture = Fixture::read("vit_class_token");
    let (architecture, model_spec) = (fixture.config.image(), fixture.config.model_spec("test"));
    let mut tensors = fixture.under("weights.");
    let expected = tensors.len();
    for name in ["pre_logits.fc.weight", "pre_logits.fc.bias"] {
        tensors.insert(name.into(), tch::Tensor::ones([2], (tch::Kind::Float, tch::Device::Cpu)));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_tensors(&path, named, ("format", "pt".into()), tch::Kind::Float).unwrap();
    let read = backbones::weights::read(&path, architecture, &model_spec).unwrap();
    assert_eq!(read.weights.iter().count() + read.head.iter().count(), expected);
}

#[test]
fn an_average_pool_model_with_layer_scale_matches_timm() {
    matches_timm("vit_average_pool_layer_scale");
}

#[test]
fn a_model_with_registers_and_swiglu_matches_timm() {
    matches_timm("vit_registers_swiglu");
}

#[test]
fn a_model_at_another_image_size_matches_timm() {
    matches_timm("vit_other_image_size");
}

#[test]
fn a_stack_of_two_runs_matches_separate_runs() {
    let fixture = Fixture::read("vit_class_token");
    for name in ["linear", "fft", "lora", "ssf", "san"] {
        let method = method(name, json!({}));
        let stacked = tuned(&fixture.config, &fixture, &*method, &[BTreeMap::new(), BTreeMap::new()]);
        // Two different runs: the second one's trained tensors are changed.
        let _ = tch::no_grad(|| stacked.trainables.values().get(1).f_mul_scalar_(1.1).unwrap());
        let rows = |run: i64| -> BTreeMap<_, _> {
            let one = |(spec, tensor): (&san_core::spec::trainable::TrainableSpec, &tch::Tensor)| {
                (spec.name.clone(), tensor.get(run).detach())
            };
            stacked.trainables.iter().map(one).collect()
        };
        let input = fixture.get("input");
        let twice = tch::Tensor::cat(&[input, input], 0);
        let together = stacked.model.forward(&twice);
        let gradient = stacked.trainables.gradient(&together.square().sum(None)).unwrap();
        for run in 0..2 {
            let mut alone = tuned(&fixture.config, &fixture, &*method, &[rows(run)]);
            // `tuned` sets the fixture's head; this run has its own.
            tch::no_grad(|| {
                alone
                    .trainables
                    .values()
                    .shallow_clone()
                    .copy_(&stacked.trainables.values().narrow(0, run, 1));
            });
            alone.adapters = method.attach(&alone.model_spec, &alone.weights, &alone.trainables).unwrap();
            let logits = alone.model.forward(input);
            assert_close(name, &together.narrow(0, 2 * run, 2), &logits, 1e-5);
            let single = alone.trainables.gradient(&logits.square().sum(None)).unwrap();
            assert_close(name, &gradient.narrow(0, run, 1), &single, 2e-4);
        }
    }
}

#[test]
fn parameter_counts_match_published_ones() {
    let entry = backbones::registry::find("vit_base_patch16_224.augreg_in21k").unwrap();
    let model_spec = entry.architecture.model_spec(entry.name);
    assert_eq!(model_spec.parameters(), 85_798_656);
    let count = |name: &str| -> i64 {
        let specs = method(name, json!({})).trainables(&model_spec).unwrap();
        specs.iter().map(san_core::spec::trainable::TrainableSpec::count).sum()
    };
    assert_eq!(count("linear"), 0);
    assert_eq!(count("fft"), model_spec.parameters());
    assert_eq!(count("lora"), 294_912);
    assert_eq!(count("ssf"), 205_824);
    assert_eq!(count("san"), 83_712 + 38_400);
}

#[test]
fn a_real_checkpoint_is_read_strictly_at_two_image_sizes() {
    let Some(root) = std::env::var_os("SAN_WEIGHTS") else {
        skipped::report("SAN_WEIGHTS is not set");
        return;
    };
    let name = "vit_small_patch14_imgfocus";
    let path = std::path::Path::new(&root).join(name).join("model.safetensors");
    let published = backbones::registry::find(name).unwrap().architecture;
    for size in [224, 56] {
        let architecture = published.at_image_size(size).unwrap();
        let model_spec = architecture.model_spec(name);
        let read = backbones::weights::read(&path, &*architecture, &model_spec).unwrap();
        let adapters = san_core::AdapterSet::default();
        let builder = san_core::nn::builder::ModelBuilder::new(&read.weights, &adapters);
        let images = tch::Tensor::zeros([1, 3, size, size], (tch::Kind::Float, tch::Device::Cpu));
        let features = tch::no_grad(|| architecture.build(&builder).unwrap().features(&images));
        assert_eq!(features.size(), [1, 384]);
        assert!(f64::try_from(features.abs().sum(None)).unwrap().is_finite());
    }
    assert!(published.at_image_size(225).is_err());
}
