//! LoRA, DoRA, IA3 and VeRA against Hugging Face's peft: its files imported here give the same logits and
//! gradients, and exported files match what it writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Fixture, Tuned, assert_close, method, tuned};
use san_core::Error;
use san_core::adapters::peft::{export, import};
use san_core::io::safetensors::{TensorFile, write_tensors};
use serde_json::{Value, json};
use tch::{Kind, Tensor, no_grad};

const CASES: [&str; 5] = ["lora", "rslora", "dora", "ia3", "vera"];

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft").join(case)
}

/// A model with an adapter saved by peft.
fn imported(base: &Fixture, case: &str) -> (Box<dyn san_core::methods::Method>, Tuned) {
    let model_spec = base.config.model_spec("test");
    let read = import(&folder(case), &model_spec).unwrap();
    let method = method(&read.method, Value::Object(read.options));
    let (constants, trained): (BTreeMap<_, _>, BTreeMap<_, _>) =
        read.tensors.into_iter().partition(|(name, _)| name.starts_with("vera."));
    let ours = tuned(&base.config, base, &*method, &[trained]);
    for (name, tensor) in &constants {
        no_grad(|| ours.trainables.constant(name).unwrap().copy_(tensor));
    }
    (method, ours)
}

#[test]
fn imported_adapters_match_logits_and_gradients_of_peft() {
    let base = Fixture::read("san_base");
    for case in CASES {
        let theirs = TensorFile::read(&folder(&format!("{case}.safetensors"))).unwrap().tensors;
        let (_, ours) = imported(&base, case);
        assert_close(case, &ours.model.forward(base.get("input")), &theirs["logits"], 1e-4);
        let gradients = ours.gradients(base.get("input"), base.get("probe"));
        for (name, gradient) in theirs.iter().filter_map(|(k, v)| Some((k.strip_prefix("grad.")?, v))) {
            let scale = f64::try_from(gradient.abs().max()).unwrap().max(1.0);
            assert_close(name, &gradients[name], gradient, 1e-4 * scale);
        }
    }
}

#[test]
fn adapters_with_several_ranks_and_alphas_or_without_a_head_match_logits_of_peft() {
    let base = Fixture::read("san_base");
    for case in ["patterns", "patterns_rslora", "patterns_dora", "own_head"] {
        let theirs = TensorFile::read(&folder(&format!("{case}.safetensors"))).unwrap().tensors;
        let (_, ours) = imported(&base, case);
        assert_close(case, &ours.model.forward(base.get("input")), &theirs["logits"], 1e-4);
    }
}

#[test]
fn exported_adapters_match_files_saved_by_peft() {
    let base = Fixture::read("san_base");
    for case in CASES {
        let (method, ours) = imported(&base, case);
        let written = tempfile::tempdir().unwrap();
        export(written.path(), &*method, &[], &ours.model_spec, &ours.weights, &ours.trainables, 0).unwrap();
        let tensors =
            |folder: &Path| TensorFile::read(&folder.join("adapter_model.safetensors")).unwrap().tensors;
        let (found, expected) = (tensors(written.path()), tensors(&folder(case)));
        let names = |map: &BTreeMap<String, Tensor>| map.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "{case}");
        found.iter().for_each(|(name, tensor)| assert_close(name, tensor, &expected[name], 1e-6));
        let config = |folder: &Path| -> Value {
            serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap()
        };
        let (found, expected) = (config(written.path()), config(&folder(case)));
        for name in ["peft_type", "r", "use_dora", "modules_to_save", "bias"] {
            let or_false = |value: &Value| if value.is_null() { json!(false) } else { value.clone() };
            assert_eq!(or_false(&found[name]), or_false(&expected[name]), "{case}: {name}");
        }
        // rsLoRA is exported with the alpha that gives plain LoRA the same factor.
        let factor = found["lora_alpha"].as_f64().map(|alpha| alpha / found["r"].as_f64().unwrap());
        let theirs = expected["lora_alpha"].as_f64().map(|alpha| {
            let rank = expected["r"].as_f64().unwrap();
            if expected["use_rslora"] == true { alpha / rank.sqrt() } else { alpha / rank }
        });
        assert!((factor.unwrap_or(0.0) - theirs.unwrap_or(0.0)).abs() < 1e-12, "{case}");
    }
}

#[test]
fn pissa_initialisation_matches_peft() {
    let base = Fixture::read("san_base");
    let theirs = TensorFile::read(&folder("pissa.safetensors")).unwrap().tensors;
    let options = json!({"rank": 3, "alpha": 6.0, "targets": ["qkv", "up"], "init": "pissa"});
    let ours = tuned(&base.config, &base, &*method("lora", options), &[BTreeMap::new()]);
    assert_eq!(theirs.len(), 6);
    for (site, update) in &theirs {
        let get = |what: &str| ours.trainables.get(&format!("{site}.{what}")).unwrap().get(0);
        // The factors' signs are arbitrary, their product is not. Its last digits depend on the CPU.
        assert_close(site, &(get("lora_b").matmul(&get("lora_a")) * 2.0), update, 1e-4);
    }
}

#[test]
fn parts_of_a_fused_projection_are_exported_as_one_equivalent_adapter() {
    let base = Fixture::read("san_base");
    for (name, options) in [
        ("lora", json!({"rank": 2, "targets": ["q", "v", "down"]})),
        ("lora", json!({"rank": 2, "targets": ["v"], "init": "pissa"})),
        ("dora", json!({"rank": 2, "targets": ["q", "v"]})),
        ("ia3", json!({})),
    ] {
        let method = method(name, options);
        let ours = tuned(&base.config, &base, &*method, &[BTreeMap::new()]);
        let noise = ours.trainables.values().randn_like() * 0.1;
        no_grad(|| ours.trainables.values().shallow_clone().f_add_(&noise).map(drop)).unwrap();
        let written = tempfile::tempdir().unwrap();
        export(written.path(), &*method, &[], &ours.model_spec, &ours.weights, &ours.trainables, 0).unwrap();
        let read = import(written.path(), &ours.model_spec).unwrap();
        let again = common::method(&read.method, Value::Object(read.options));
        let other = tuned(&base.config, &base, &*again, &[read.tensors]);
        let input = base.get("input");
        assert_close(name, &other.model.forward(input), &ours.model.forward(input), 1e-4);
        loads_in_peft(&base, &ours, written.path());
    }
}

#[test]
fn a_language_model_adapter_has_peft_names_and_round_trips() {
    let base = Fixture::read("llama_grouped");
    for (name, options) in [
        ("lora", json!({"rank": 2, "targets": ["q", "v", "up"]})),
        ("dora", json!({"rank": 2, "targets": ["q", "k", "v", "up", "down"]})),
        ("ia3", json!({})),
    ] {
        let method = method(name, options);
        let ours = tuned(&base.config, &base, &*method, &[BTreeMap::new()]);
        let noise = ours.trainables.values().randn_like() * 0.1;
        no_grad(|| ours.trainables.values().shallow_clone().f_add_(&noise).map(drop)).unwrap();
        let written = tempfile::tempdir().unwrap();
        export(written.path(), &*method, &[], &ours.model_spec, &ours.weights, &ours.trainables, 0).unwrap();
        let tensors = TensorFile::read(&written.path().join("adapter_model.safetensors")).unwrap().tensors;
        let block = "base_model.model.model.layers.1";
        let expected = match name {
            "lora" => vec!["self_attn.v_proj.lora_A.weight", "mlp.up_proj.lora_B.weight"],
            "dora" => vec!["self_attn.k_proj.lora_magnitude_vector", "mlp.down_proj.lora_A.weight"],
            _ => vec!["self_attn.k_proj.ia3_l", "mlp.down_proj.ia3_l"],
        };
        for name in expected {
            assert!(tensors.contains_key(&format!("{block}.{name}")), "{name}: {:?}", tensors.keys());
        }
        assert!(tensors.keys().all(|name| name.starts_with("base_model.model.model.layers.")));
        let read = import(written.path(), &ours.model_spec).unwrap();
        let again = common::method(&read.method, Value::Object(read.options));
        let other = tuned(&base.config, &base, &*again, &[read.tensors]);
        let input = base.get("input");
        assert_close(name, &other.model.forward(input), &ours.model.forward(input), 1e-5);
        loads_in_peft(&base, &ours, written.path());
    }
}

#[test]
fn an_adapter_that_computes_something_else_on_the_published_weights_is_rejected() {
    let base = Fixture::read("llama_grouped");
    let method = method("lora", json!({"rank": 2, "targets": ["q", "v"]}));
    let ours = tuned(&base.config, &base, &*method, &[BTreeMap::new()]);
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), &*method, &[], &ours.model_spec, &ours.weights, &ours.trainables, 0).unwrap();
    let path = folder.path().join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (init, accepted) in [
        (json!(true), true),
        (json!("gaussian"), true),
        (json!("pissa_niter_16"), false),
        (json!("olora"), false),
        (json!("corda"), false),
        (json!("loftq"), false),
    ] {
        config["init_lora_weights"] = init.clone();
        std::fs::write(&path, config.to_string()).unwrap();
        match import(folder.path(), &ours.model_spec) {
            Ok(_) => assert!(accepted, "{init}"),
            Err(error) => assert!(!accepted && error.to_string().contains("`init_lora_weights`"), "{error}"),
        }
    }
    config["init_lora_weights"] = json!(true);
    config["alora_invocation_tokens"] = json!([1, 2]);
    std::fs::write(&path, config.to_string()).unwrap();
    let error = import(folder.path(), &ours.model_spec).unwrap_err().to_string();
    assert!(error.contains("`alora_invocation_tokens`"), "{error}");
}

/// Runs peft itself if available: `SAN_PYTHON` is a Python with tools/requirements.txt.
fn loads_in_peft(base: &Fixture, ours: &Tuned, adapter: &Path) {
    let Some(python) = std::env::var_os("SAN_PYTHON") else {
        skipped::report("SAN_PYTHON is not set");
        return;
    };
    let logits = ours.model.forward(base.get("input"));
    let expected = adapter.join("expected.safetensors");
    let mut tensors = vec![("logits", &logits)];
    if matches!(base.config, common::Configured::Language(_)) {
        tensors.push(("tokens", base.get("input")));
    }
    write_tensors(&expected, tensors, ("format", "pt".into()), Kind::Float).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/check_peft.py");
    let output = std::process::Command::new(python).arg(script).arg(adapter).arg(&expected).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn adapters_that_peft_cannot_represent_are_rejected_with_the_reason() {
    let base = Fixture::read("san_base");
    let written = tempfile::tempdir().unwrap();
    for (name, options, reason) in [
        ("san", json!({}), "no such method"),
        ("vera", json!({"rank": 4}), "peft adapts only whole projections"),
        ("lora", json!({"rank": 2, "targets": ["patch_embed"]}), "convolution"),
    ] {
        let method = method(name, options);
        let ours = tuned(&base.config, &base, &*method, &[BTreeMap::new()]);
        let error =
            export(written.path(), &*method, &[], &ours.model_spec, &ours.weights, &ours.trainables, 0);
        assert!(matches!(&error, Err(Error::Unexportable { .. })));
        assert!(error.unwrap_err().to_string().contains(reason));
    }
    assert!(import(written.path(), &base.config.model_spec("test")).is_err());
}
