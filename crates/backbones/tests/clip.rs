//! The CLIP tower against transformers (tools/clip_fixtures.py): features, tokens and gradients for the same weights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use backbones::Architecture;
use backbones::Backbone;
use backbones::vision::clip;
use common::{assert_close, method};
use san_core::io::safetensors::TensorFile;
use san_core::methods;
use san_core::nn::builder::{AdapterSet, ModelBuilder};
use san_core::{Error, Weights};
use serde_json::json;
use tch::{Device, Kind, Tensor};

const TOLERANCE: f64 = 1e-4;

struct Fixture(TensorFile);

impl Fixture {
    fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        Self(TensorFile::read(&folder.join(format!("{name}.safetensors"))).unwrap())
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.0.tensors[name]
    }

    fn under(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let strip = |(name, tensor): (&String, &Tensor)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone()))
        };
        self.0.tensors.iter().filter_map(strip).collect()
    }

    /// The published configuration with LLaVA's choice of layer.
    fn config(&self, layer: i64) -> clip::Config {
        let config: clip::Config = serde_json::from_str(&self.0.metadata["config"]).unwrap();
        clip::Config { vision_feature_layer: layer, ..config }
    }

    fn model(&self, layer: i64) -> Box<dyn Backbone> {
        build(&self.config(layer), &Weights::new(self.under("weights.")))
    }
}

fn build(config: &clip::Config, weights: &Weights) -> Box<dyn Backbone> {
    let adapters = AdapterSet::default();
    config.build(&ModelBuilder::new(weights, &adapters)).unwrap()
}

fn matches_transformers(name: &str) {
    tch::set_num_threads(1);
    let fixture = Fixture::read(name);
    let input = fixture.get("input");
    assert_close("features", &fixture.model(-1).features(input), fixture.get("features"), TOLERANCE);
    for layer in [-1, -2, 1] {
        let tokens = fixture.model(layer).tokens(input);
        assert_eq!(tokens.size()[1], fixture.config(layer).token_count());
        assert_close(&format!("layer {layer}"), &tokens, fixture.get(&format!("tokens_{layer}")), TOLERANCE);
    }
    let trained: BTreeMap<String, Tensor> = fixture
        .under("weights.")
        .into_iter()
        .map(|(name, tensor)| (name, tensor.set_requires_grad(true)))
        .collect();
    let leaves: BTreeMap<_, _> = trained.iter().map(|(name, leaf)| (name, leaf.shallow_clone())).collect();
    let weights = Weights::new(trained.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect());
    let tokens = build(&fixture.config(-2), &weights).tokens(input);
    (tokens * fixture.get("probe")).sum(None).backward();
    let theirs = fixture.under("grad.");
    for (name, leaf) in leaves {
        let ours = leaf.grad();
        match theirs.get(name) {
            Some(gradient) => assert_close(name, &ours, gradient, TOLERANCE),
            None => assert!(!ours.defined(), "{name} comes after the chosen layer"),
        }
    }
}

#[test]
fn a_tower_with_quick_gelu_matches_transformers() {
    matches_transformers("clip_quick_gelu");
}

#[test]
fn a_tower_with_gelu_matches_transformers() {
    matches_transformers("clip_gelu");
}

#[test]
fn a_full_published_file_is_read_and_an_unexpected_tensor_is_rejected() {
    let fixture = Fixture::read("clip_quick_gelu");
    let config = fixture.config(-2);
    let model_spec = config.model_spec("clip");
    let mut tensors = fixture.under("weights.");
    let number = || Tensor::zeros([1], (Kind::Float, Device::Cpu));
    for other in ["text_model.x", "logit_scale", "vision_model.embeddings.position_ids"] {
        tensors.insert(other.into(), number());
    }
    let read = config.fit(Weights::new(tensors)).unwrap();
    read.check(&model_spec, "the file").unwrap();
    let mut read = read;
    read.insert("vision_model.extra", number());
    let fitted = config.fit(read).unwrap();
    assert!(matches!(fitted.check(&model_spec, "the file"), Err(Error::UnexpectedTensor { .. })));
}

#[test]
fn a_nonexistent_layer_is_rejected() {
    let fixture = Fixture::read("clip_quick_gelu");
    for layer in [-5, 4] {
        let weights = Weights::new(fixture.under("weights."));
        let adapters = AdapterSet::default();
        let result = fixture.config(layer).build(&ModelBuilder::new(&weights, &adapters));
        assert!(result.unwrap_err().to_string().contains(&layer.to_string()));
    }
}

#[test]
fn san_under_every_wiring_starts_as_the_frozen_tower_and_merges() {
    let fixture = Fixture::read("clip_quick_gelu");
    let config = fixture.config(-1);
    let model_spec = config.model_spec("clip");
    let weights = Weights::new(fixture.under("weights."));
    let input = fixture.get("input");
    for wiring in ["authors", "authors_resize", "full"] {
        let san = method("san", json!({"wiring": wiring}));
        let (trainables, _) =
            methods::prepare(&*san, &[], &model_spec, &weights, 2, &[1], Device::Cpu).unwrap();
        let built = |trainables: &san_core::Trainables| {
            let adapters = san.attach(&model_spec, &weights, trainables).unwrap();
            let features = config.build(&ModelBuilder::new(&weights, &adapters)).unwrap().features(input);
            (adapters, features)
        };
        assert_close(wiring, &built(&trainables).1, fixture.get("features"), TOLERANCE);
        let noise = Tensor::from_slice(
            &(0..trainables.values().numel()).map(|n| (n as f32 * 0.7).sin() * 0.1).collect::<Vec<_>>(),
        );
        tch::no_grad(|| {
            let _ = trainables.values().shallow_clone().g_add_(&noise.view_as(trainables.values()));
        });
        let (adapters, tuned) = built(&trainables);
        let change = (&tuned - fixture.get("features")).abs().max();
        assert!(f64::try_from(change).unwrap() > 1e-2, "{wiring}");
        let merged =
            san_core::adapters::merge::merge(&model_spec, &weights, &adapters, &trainables, 0).unwrap();
        assert_close(wiring, &build(&config, &merged).features(input), &tuned, TOLERANCE);
    }
}
