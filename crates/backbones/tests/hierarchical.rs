//! Swin and ConvNeXt against timm: outputs and the gradient of every parameter, for the same weights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::collections::BTreeMap;

use backbones::registry;
use common::{Fixture, assert_close, method, tuned};
use san_core::methods;
use serde_json::json;

const TOLERANCE: f64 = 1e-4;

fn matches_timm(name: &str) {
    let fixture = Fixture::read(name);
    let ours = tuned(&fixture.config, &fixture, &*method("fft", json!({})), &[BTreeMap::new()]);
    let input = fixture.get("input");
    assert_close("features", &ours.model.features(input), fixture.get("features"), TOLERANCE);
    assert_close("logits", &ours.model.forward(input), fixture.get("logits"), TOLERANCE);
    let theirs = fixture.under("grad.");
    let gradients = ours.gradients(input, fixture.get("probe"));
    assert_eq!(gradients.len(), theirs.len());
    for (key, gradient) in &gradients {
        assert_close(key, gradient, &theirs[key], TOLERANCE);
    }
}

#[test]
fn a_swin_with_shifted_windows_matches_timm() {
    matches_timm("swin_shifted");
}

#[test]
fn a_swin_whose_grid_is_padded_to_whole_windows_matches_timm() {
    matches_timm("swin_padded");
}

#[test]
fn a_convnext_with_a_small_stem_matches_timm() {
    matches_timm("convnext_small_stem");
}

#[test]
fn a_convnext_without_layer_scale_matches_timm() {
    matches_timm("convnext_no_layer_scale");
}

#[test]
fn san_matches_timm_with_scaled_weights_in_every_mode_and_wiring() {
    for name in ["swin_shifted", "swin_padded", "convnext_small_stem", "convnext_no_layer_scale"] {
        let base = Fixture::read(name);
        let fixture = Fixture::read(&format!("san_on_{name}"));
        let wirings: &[&str] =
            if name.starts_with("swin") { &["authors", "authors_resize", "full"] } else { &["full"] };
        for mode in ["both", "nt", "sp"] {
            for wiring in wirings {
                let san = method("san", json!({"mode": mode, "wiring": wiring}));
                let ours = tuned(&base.config, &base, &*san, &[fixture.under("trained.")]);
                let case = format!("{mode}_{wiring}");
                let logits = fixture.get(&format!("{case}.logits"));
                assert_close(&case, &ours.model.forward(base.get("input")), logits, TOLERANCE);
                let gradients = ours.gradients(base.get("input"), base.get("probe"));
                for (key, gradient) in fixture.under(&format!("{case}.grad.")) {
                    let scale = f64::try_from(gradient.abs().max()).unwrap().max(1.0);
                    assert_close(&format!("{case} {key}"), &gradients[&key], &gradient, TOLERANCE * scale);
                }
            }
        }
    }
}

#[test]
fn model_specs_match_published_checkpoints() {
    for name in [
        "vit_base_patch16_224.augreg_in21k",
        "vit_giant_patch14_reg4_dinov2.lvd142m",
        "swin_base_patch4_window7_224.ms_in22k",
        "convnext_base.fb_in22k",
    ] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let published: BTreeMap<String, Vec<i64>> = serde_json::from_str(&text).unwrap();
        let model_spec = registry::find(name).unwrap().architecture.model_spec(name);
        let ours: BTreeMap<_, _> =
            model_spec.tensors.into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
        assert_eq!(ours, published, "{name}");
    }
}

#[test]
fn a_swin_file_with_the_names_and_buffers_of_older_versions_of_timm_is_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let expected = Fixture::read("swin_old_names_expected");
    let (architecture, model_spec) = (expected.config.image(), expected.config.model_spec("test"));
    let file = folder.join("swin_old_names.safetensors");
    let read = backbones::weights::read(&file, architecture, &model_spec).unwrap();
    let mut weights = read.weights.shallow_clone();
    assert_eq!(
        read.head.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        ["head.fc.bias", "head.fc.weight"]
    );
    read.head.iter().for_each(|(name, tensor)| weights.insert(name, tensor.shallow_clone()));
    let model = backbones::vision::Classifier::merged(architecture, &model_spec, &weights).unwrap();
    let logits = tch::no_grad(|| model.forward(expected.get("input")));
    assert_close("logits", &logits, expected.get("logits"), TOLERANCE);
}

#[test]
fn weight_decay_applies_to_the_same_parameters_as_in_timm() {
    let text = include_str!("fixtures/weight_decay.json");
    let published: BTreeMap<String, BTreeMap<String, bool>> = serde_json::from_str(text).unwrap();
    assert_eq!(published.len(), 4);
    for (name, theirs) in published {
        let model_spec = registry::find(&name).unwrap().architecture.model_spec(&name);
        let trained = methods::trainables_with(&*method("fft", json!({})), &[], &model_spec).unwrap();
        let ours: BTreeMap<_, _> =
            trained.into_iter().map(|spec| (spec.name.clone(), spec.decays())).collect();
        let head = model_spec.head.unwrap().name;
        let theirs = theirs.into_iter().filter(|(key, _)| !key.starts_with(&format!("{head}.")));
        assert_eq!(ours, theirs.collect(), "{name}");
    }
}

#[test]
fn unsupported_image_sizes_are_rejected_with_the_reason() {
    let message = |name: &str, size| {
        registry::find(name).unwrap().architecture.at_image_size(size).unwrap_err().to_string()
    };
    let swin = "swin_base_patch4_window7_224.ms_in22k";
    assert!(message(swin, 230).contains("multiple"));
    assert!(message(swin, 96).contains("windows"));
    assert!(message("convnext_base.fb_in22k", 100).contains("multiple"));
    assert!(registry::find(swin).unwrap().architecture.at_image_size(448).is_ok());
}

#[test]
fn full_size_models_match_timm() {
    let (Some(_), Some(python)) = (std::env::var_os("SAN_FULL_SIZE"), std::env::var_os("SAN_PYTHON")) else {
        skipped::report("SAN_FULL_SIZE and SAN_PYTHON are not both set");
        return;
    };
    for name in ["swin_base_patch4_window7_224.ms_in22k", "convnext_base.fb_in22k"] {
        let folder = tempfile::tempdir().unwrap();
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/full_size_model.py");
        let made = std::process::Command::new(&python).arg(script).arg(name).arg(folder.path()).status();
        assert!(made.unwrap().success());
        let architecture = registry::find(name).unwrap().architecture;
        let model_spec = architecture.model_spec(name);
        let file = folder.path().join("model.safetensors");
        let weights = backbones::weights::read(&file, &*architecture, &model_spec).unwrap().weights;
        let expected =
            san_core::io::safetensors::TensorFile::read(&folder.path().join("expected.safetensors"));
        let expected = expected.unwrap().tensors;
        let adapters = san_core::AdapterSet::default();
        let model =
            architecture.build(&san_core::nn::builder::ModelBuilder::new(&weights, &adapters)).unwrap();
        let features = tch::no_grad(|| model.features(&expected["input"]));
        let difference = f64::try_from((features - &expected["features"]).abs().max()).unwrap();
        println!("{name}: largest difference {difference:.1e}");
        assert!(difference < 1e-4, "{name}: {difference:.1e}");
    }
}
