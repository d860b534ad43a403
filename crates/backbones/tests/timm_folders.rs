//! Folders that timm saved, of sizes that are in no list: the architecture from `config.json`, the weights with their
//! head, and the outputs against timm's for the same images (tools/timm_folder_fixtures.py).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use backbones::vision::Classifier;
use backbones::vision::timm::{self, TimmModel};
use backbones::weights::{self, Published};
use san_core::io::safetensors::TensorFile;
use serde_json::{Value, json};

const TOLERANCE: f64 = 1e-4;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/timm").join(name)
}

fn model(name: &str) -> TimmModel {
    match weights::architecture(&folder(name)).unwrap() {
        Published::Vision(model) => model,
        other => panic!("{other:?}"),
    }
}

fn difference(ours: &tch::Tensor, theirs: &tch::Tensor) -> f64 {
    (ours - theirs).abs().max().double_value(&[])
}

#[test]
fn every_folder_has_the_features_and_logits_of_timm() {
    for name in ["vit", "clip", "average_pool", "registers", "swin", "convnext", "convnext_v2"] {
        let TimmModel { architecture, pretrained } = model(name);
        let pretrained = pretrained.unwrap();
        let (mean, size) = (pretrained.mean, pretrained.input_size[1]);
        assert_eq!((mean, size), ([0.4, 0.45, 0.5], architecture.image_size()), "{name}");
        let model_spec = architecture.model_spec(name);
        let read =
            weights::read(&folder(name).join("model.safetensors"), &*architecture, &model_spec).unwrap();
        let mut all = read.weights.shallow_clone();
        assert_eq!(read.head.iter().count(), 2, "{name}");
        for (tensor, value) in read.head.iter() {
            all.insert(tensor, value.shallow_clone());
        }
        let classifier = Classifier::merged(&*architecture, &model_spec, &all).unwrap();
        let expected = TensorFile::read(&folder(name).join("expected.safetensors")).unwrap().tensors;
        let input = &expected["input"];
        let features = classifier.features(input);
        assert!(difference(&features, &expected["features"]) < TOLERANCE, "{name}: features");
        assert!(difference(&classifier.head(&features), &expected["logits"]) < TOLERANCE, "{name}: logits");
    }
}

#[test]
fn every_known_architecture_is_supported_or_refused_by_what_it_has() {
    let known: Value = serde_json::from_str(include_str!("../src/vision/timm_models.json")).unwrap();
    let (mut supported, mut refused) = (0, Vec::new());
    for name in known["architectures"].as_object().unwrap().keys() {
        match timm::configured(&json!({"architecture": name})) {
            Ok(model) => {
                assert!(model.architecture.model_spec(name).parameters() > 0);
                supported += 1;
            }
            Err(reason) => refused.push(format!("{name}: {reason}")),
        }
    }
    assert!(supported >= 120, "{supported} of {}: {refused:#?}", supported + refused.len());
    for (name, reason) in [
        ("vit_base_patch16_siglip_224", "`map`"),
        ("convnext_nano_ols", "`stem_type`"),
        ("swin_s3_tiny_224", "`window_size`"),
        ("deit_base_distilled_patch16_224", "VisionTransformerDistilled"),
    ] {
        let found = refused.iter().find(|line| line.starts_with(&format!("{name}:")));
        assert!(found.is_some_and(|line| line.contains(reason)), "{name}: {found:?}");
    }
}

#[test]
fn what_a_configuration_says_wrong_is_named() {
    let vit = |arguments: Value| json!({"architecture": "vit_tiny_patch16_224", "model_args": arguments});
    for (document, reason) in [
        (json!({"architecture": "vit_tiny_patch16_242"}), "did you mean `vit_tiny_patch16_224`"),
        (json!({"architecture": "resnet50"}), "`resnet50` is not one of timm's"),
        (vit(json!({"qk_norm": true})), "`qk_norm` is true"),
        (vit(json!({"depth": "twelve"})), "`depth` is \"twelve\""),
        (vit(json!({"num_heads": 5})), "`num_heads` does not divide"),
        (vit(json!({"num_heads": 0})), "num_heads"),
        (vit(json!({"depth": 1_000_000_000})), "depth"),
        (vit(json!({"patch_size": 7, "img_size": 50})), "multiple of the patch size"),
        (vit(json!({"in_chans": 1})), "`in_chans` is 1"),
        (json!({"architecture": "vit_tiny_patch16_224", "model_args": []}), "`model_args` is not an object"),
        (json!({"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"mean": 1}}), "`pretrained_cfg`"),
        (
            json!({"architecture": "swin_tiny_patch4_window7_224", "model_args": {"num_heads": [3]}}),
            "one number for each stage",
        ),
        (
            json!({"architecture": "convnext_tiny", "model_args": {"kernel_sizes": 4}}),
            "`kernel_sizes` must be odd",
        ),
    ] {
        let error = timm::configured(&document).unwrap_err();
        assert!(error.contains(reason), "{document}: {error}");
    }
}
