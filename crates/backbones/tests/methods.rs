//! Methods on ViT against independent implementations of their papers' formulas, and merging.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use backbones::vision::Classifier;
use common::{Fixture, Tuned, assert_close, method, tuned};
use san_core::adapters::merge::merge;
use serde_json::{Value, json};
use tch::Tensor;

const TOLERANCE: f64 = 1e-4;

fn compare(ours: &Tuned, base: &Fixture, logits: &Tensor, gradients: &BTreeMap<String, Tensor>) {
    let input = base.get("input");
    assert_close("logits", &ours.model.forward(input), logits, TOLERANCE);
    let found = ours.gradients(input, base.get("probe"));
    let names = |map: &BTreeMap<String, Tensor>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(gradients));
    for (name, gradient) in &found {
        assert_close(name, gradient, &gradients[name], TOLERANCE);
    }
}

fn merges(ours: &Tuned, base: &Fixture) {
    let config = base.config.image();
    let merged = merge(&ours.model_spec, &ours.weights, &ours.adapters, &ours.trainables, 0).unwrap();
    let plain = Classifier::merged(config, &ours.model_spec, &merged).unwrap();
    let input = base.get("input");
    assert_close("merged logits", &plain.forward(input), &ours.model.forward(input), TOLERANCE);
}

#[test]
fn san_matches_the_paper_in_every_mode_and_wiring_and_merges() {
    let base = Fixture::read("san_base");
    for mode in ["both", "nt", "sp"] {
        for wiring in ["authors", "authors_resize", "full"] {
            let fixture = Fixture::read(&format!("san_{mode}_{wiring}"));
            let san = method("san", json!({"mode": mode, "wiring": wiring}));
            let ours = tuned(&base.config, &base, &*san, &[fixture.under("trained.")]);
            compare(&ours, &base, fixture.get("logits"), &fixture.under("grad."));
            merges(&ours, &base);
        }
    }
}

#[test]
fn the_options_of_san_match_their_formulas_and_merge() {
    let base = Fixture::read("san_base");
    for extra in ["ltd_ltp", "shift", "detach"] {
        let fixture = Fixture::read(&format!("san_{extra}"));
        let san = method("san", json!({"wiring": "authors_resize", extra: true}));
        let ours = tuned(&base.config, &base, &*san, &[fixture.under("trained.")]);
        compare(&ours, &base, fixture.get("logits"), &fixture.under("grad."));
        merges(&ours, &base);
    }
}

fn matches_reference(name: &str, options: Value) {
    let base = Fixture::read("san_base");
    let fixture = Fixture::read("methods");
    let method = method(name, options);
    let ours = tuned(&base.config, &base, &*method, &[fixture.under(&format!("{name}.trained."))]);
    compare(&ours, &base, fixture.get(&format!("{name}.logits")), &fixture.under(&format!("{name}.grad.")));
    merges(&ours, &base);
}

#[test]
fn lora_matches_its_formula_and_merges() {
    matches_reference("lora", json!({"rank": 2, "alpha": 4.0}));
}

#[test]
fn ssf_matches_its_formula_and_merges() {
    matches_reference("ssf", json!({}));
}

#[test]
fn full_fine_tuning_and_linear_probe_merge() {
    let base = Fixture::read("san_base");
    for name in ["fft", "linear"] {
        merges(&tuned(&base.config, &base, &*method(name, json!({})), &[BTreeMap::new()]), &base);
    }
}

#[test]
fn methods_other_than_ssf_start_as_the_frozen_model() {
    let base = Fixture::read("san_base");
    for name in ["linear", "fft", "lora", "san"] {
        let ours = tuned(&base.config, &base, &*method(name, json!({})), &[BTreeMap::new()]);
        assert_close(name, &ours.model.forward(base.get("input")), base.get("logits"), TOLERANCE);
    }
}
