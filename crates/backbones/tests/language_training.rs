//! Training large language models: bf16 frozen weights and gradient checkpointing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use backbones::checkpointing;
use backbones::language::{LanguageArchitecture, LanguageModel};
use common::{Configured, Fixture, assert_close, method, tuned};
use san_core::methods::Method;
use san_core::nn::builder::ModelBuilder;
use san_core::train::gradients::GradientSink;
use san_core::{Trainables, Weights};
use serde_json::{Value, json};
use tch::{Kind, Tensor, no_grad};

fn cases() -> Vec<(&'static str, Value)> {
    let all = json!(["q", "k", "v", "proj", "gate", "up", "down"]);
    vec![
        ("fft", json!({})),
        ("norm", json!({})),
        ("lora", json!({"rank": 2, "targets": all})),
        ("dora", json!({"rank": 2, "targets": all, "detach_norm": false})),
        ("ia3", json!({})),
        ("ssf", json!({})),
        ("adapter", json!({"bottleneck": 3})),
        ("san", json!({"wiring": "full"})),
        ("san_dora", json!({"host": {"rank": 2, "targets": all}})),
    ]
}

fn fixture() -> (Fixture, Arc<dyn LanguageArchitecture>) {
    let fixture = Fixture::read("llama_grouped");
    let Configured::Language(config) = &fixture.config else { panic!("not a language model") };
    let config = config.clone();
    (fixture, config)
}

/// A stack of two perturbed runs, on weights of another dtype.
fn perturbed(
    fixture: &Fixture,
    config: &dyn LanguageArchitecture,
    method: &dyn Method,
    kind: Kind,
) -> (Trainables, Box<dyn LanguageModel>) {
    let ours = tuned(&fixture.config, fixture, method, &[BTreeMap::new(), BTreeMap::new()]);
    tch::manual_seed(7);
    let noise = ours.trainables.values().randn_like() * 0.1;
    no_grad(|| ours.trainables.values().shallow_clone().f_add_(&noise).map(drop)).unwrap();
    let cast = |(name, tensor): (&str, &Tensor)| {
        let matrix = tensor.dim() > 1;
        (name.to_owned(), if matrix { tensor.to_kind(kind) } else { tensor.shallow_clone() })
    };
    let weights = Weights::new(ours.weights.iter().map(cast).collect());
    let adapters = method.attach(&ours.model_spec, &weights, &ours.trainables).unwrap();
    let model = config.build(&ModelBuilder::new(&weights, &adapters)).unwrap();
    (ours.trainables, model)
}

fn tokens(fixture: &Fixture) -> Tensor {
    let input = fixture.get("input").to_kind(Kind::Int64);
    Tensor::cat(&[&input, &input], 0)
}

#[test]
fn gradient_checkpointing_does_not_change_gradients() {
    let (fixture, config) = fixture();
    let tokens = tokens(&fixture);
    let valid = tokens.ones_like().to_kind(Kind::Bool);
    let _ = valid.get(0).narrow(0, 0, 2).fill_(0);
    for (name, options) in cases() {
        let method = method(name, options);
        let (trainables, model) = perturbed(&fixture, &*config, &*method, Kind::Float);
        for valid in [None, Some(&valid)] {
            let loss = |hidden: &Tensor| model.logits(hidden).square().mean(None);
            let embedded = model.embed(&tokens);
            let plain = loss(&model.hidden(&embedded, valid, None));
            let expected = trainables.gradient(&plain).unwrap();
            let embedded = model.embed(&tokens);
            let (value, found) =
                checkpointing::gradient(&*model, &trainables, &embedded, valid, |hidden| Ok(loss(hidden)))
                    .unwrap();
            assert_close(name, &value, &plain, 1e-6);
            let scale = f64::try_from(expected.abs().max()).unwrap();
            assert!(scale > 0.0, "{name}");
            assert_close(name, &found, &expected, 1e-5 * scale);
        }
    }
}

/// The order in which gradients are passed on: the names of their tensors.
struct Order<'a>(&'a Trainables, Vec<String>);

impl GradientSink for Order<'_> {
    fn take(&mut self, position: usize, _: Tensor) -> Result<(), san_core::Error> {
        self.1.push(self.0.iter().nth(position).unwrap().0.name.clone());
        Ok(())
    }
}

#[test]
fn gradient_checkpointing_passes_on_the_gradients_of_one_block_at_a_time_from_the_last_to_the_first() {
    let (fixture, config) = fixture();
    let tokens = tokens(&fixture);
    let method = method("fft", json!({}));
    let (trainables, model) = perturbed(&fixture, &*config, &*method, Kind::Float);
    let embedded = model.embed(&tokens);
    let mut order = Order(&trainables, Vec::new());
    let losses = |hidden: &Tensor| Ok(model.logits(hidden).square().mean(None));
    let _ = checkpointing::gradients(&*model, &trainables, &embedded, None, losses, &mut order).unwrap();
    let block = |name: &String| {
        let block = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next());
        block.map_or_else(|| name.clone(), |block| format!("block {block}"))
    };
    let mut blocks: Vec<String> = order.1.iter().map(block).collect();
    assert_eq!(blocks.len(), trainables.iter().count());
    blocks.dedup();
    let expected = ["lm_head.weight", "model.norm.weight", "block 1", "block 0", "model.embed_tokens.weight"];
    assert_eq!(blocks, expected);
}

#[test]
fn bf16_weights_give_logits_and_gradients_within_bf16_precision() {
    let (fixture, config) = fixture();
    let tokens = tokens(&fixture);
    for (name, options) in cases() {
        let method = method(name, options);
        let run = |kind| {
            let (trainables, model) = perturbed(&fixture, &*config, &*method, kind);
            let logits = model.forward(&tokens, None);
            assert_eq!(logits.kind(), Kind::Float);
            let gradient = trainables.gradient(&logits.square().mean(None)).unwrap();
            assert_eq!(gradient.kind(), Kind::Float);
            (logits.detach(), gradient)
        };
        let ((logits, gradient), (narrow_logits, narrow_gradient)) = (run(Kind::Float), run(Kind::BFloat16));
        let relative_error = |a: &Tensor, b: &Tensor| f64::try_from((a - b).norm() / a.norm()).unwrap();
        let (logits, gradient) =
            (relative_error(&logits, &narrow_logits), relative_error(&gradient, &narrow_gradient));
        println!("{name}: logits {logits:.1e}, gradient {gradient:.1e}");
        // bf16 has an 8-bit significand, and every activation is rounded to it.
        let expected = 1e-3..5e-2;
        assert!(expected.contains(&logits) && expected.contains(&gradient), "{name}: {logits} {gradient}");
    }
}
