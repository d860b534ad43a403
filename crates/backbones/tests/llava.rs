//! LLaVA against transformers (tools/llava_fixtures.py): logits, gradients and generated tokens; merged models
//! as files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use backbones::Error;
use backbones::language::decoder::Config;
use backbones::language::generate::{Decoding, Limits, generate};
use backbones::language::llama::llama;
use backbones::registry;
use backbones::vision::clip;
use backbones::vision::vit;
use backbones::vlm::llava::{Architecture, Llava, Parts};
use backbones::weights;
use common::{assert_close, method};
use san_core::adapters::merge::merge;
use san_core::io::safetensors::{TensorFile, write_tensors};
use san_core::nn::builder::{AdapterSet, ModelBuilder};
use san_core::spec::model::ModelSpec;
use san_core::{Trainables, Weights, methods};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, no_grad};

const TOLERANCE: f64 = 1e-4;

struct Case {
    architecture: Architecture,
    file: TensorFile,
    parts: Parts,
    model_spec: ModelSpec,
}

impl Case {
    fn read() -> Self {
        tch::set_num_threads(1);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llava.safetensors");
        let file = TensorFile::read(&path).unwrap();
        let read = published(&file, &under(&file, "weights.")).unwrap();
        let model_spec = read.architecture.model_spec("llava");
        Self { architecture: read.architecture, file, parts: read.parts, model_spec }
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.file.tensors[name]
    }

    fn tokens(&self) -> Tensor {
        self.get("tokens").to_kind(Kind::Int64)
    }

    fn valid(&self) -> Tensor {
        self.get("valid").to_kind(Kind::Bool)
    }

    fn model(&self, adapters: &AdapterSet) -> Llava {
        self.architecture.build(&self.parts.tower, &ModelBuilder::new(&self.parts.rest, adapters)).unwrap()
    }

    /// Logits, set to 0 at padding, where transformers' values are meaningless.
    fn logits(&self, model: &Llava) -> Tensor {
        let features = model.encode_images(self.get("images"));
        let logits = model.forward(&self.tokens(), Some(&features), Some(&self.valid())).unwrap();
        logits * self.valid().unsqueeze(-1)
    }

    fn expected(&self) -> Tensor {
        self.get("scores") * self.valid().unsqueeze(-1)
    }
}

/// What is read from a folder as transformers writes it, with these weights.
fn published(
    file: &TensorFile,
    stored: &BTreeMap<String, Tensor>,
) -> Result<weights::LlavaCheckpoint, Error> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), &file.metadata["config"]).unwrap();
    let named = stored.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let target = folder.path().join("model.safetensors");
    write_tensors(&target, named, ("format", "pt".into()), Kind::Float).unwrap();
    weights::llava(folder.path(), weights::Target::default())
}

fn under(file: &TensorFile, prefix: &str) -> BTreeMap<String, Tensor> {
    let strip =
        |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.copy()));
    file.tensors.iter().filter_map(strip).collect()
}

fn prepared(case: &Case, name: &str, options: Value) -> (Trainables, AdapterSet) {
    let method = method(name, options);
    methods::prepare(&*method, &[], &case.model_spec, &case.parts.rest, 0, &[3], Device::Cpu).unwrap()
}

#[test]
fn non_finite_values_are_rejected_in_tower_projector_and_language_model() {
    let case = Case::read();
    for part in ["vision_tower", "multi_modal_projector", "language_model"] {
        let mut stored = under(&case.file, "weights.");
        let (name, tensor) = stored.iter_mut().rfind(|(name, _)| name.contains(part)).unwrap();
        let name = name.clone();
        *tensor = Tensor::full_like(tensor, f64::INFINITY);
        let error = published(&case.file, &stored).unwrap_err();
        assert!(matches!(error, Error::Core(san_core::Error::NotFiniteTensor { .. })), "{name}: {error}");
    }
}

#[test]
fn logits_for_a_batch_with_two_images_match_transformers() {
    let case = Case::read();
    let logits = no_grad(|| case.logits(&case.model(&AdapterSet::default())));
    assert_close("logits", &logits, &case.expected(), TOLERANCE);
}

#[test]
fn gradients_match_transformers() {
    let case = Case::read();
    let (trainables, adapters) = prepared(&case, "fft", json!({}));
    let loss = (case.logits(&case.model(&adapters)) * case.get("probe")).sum(None);
    let flat = trainables.gradient(&loss).unwrap().get(0);
    let theirs = under(&case.file, "grad.");
    let (mut offset, mut compared) = (0, 0);
    for (spec, _) in trainables.iter() {
        if let Some(expected) = theirs.get(&spec.name) {
            let ours = flat.narrow(0, offset, spec.count()).view(spec.shape.as_slice());
            assert_close(&spec.name, &ours, expected, TOLERANCE);
            compared += 1;
        }
        offset += spec.count();
    }
    assert_eq!(compared, theirs.len());
}

#[test]
fn greedy_answers_match_transformers() {
    let case = Case::read();
    let model = case.model(&AdapterSet::default());
    let (tokens, valid) = (case.tokens(), case.get("valid"));
    let prompt = |row: i64| -> Vec<i64> {
        let valid = Vec::<f32>::try_from(valid.get(row)).unwrap();
        let tokens = Vec::<i64>::try_from(tokens.get(row)).unwrap();
        tokens.into_iter().zip(valid).filter(|(_, valid)| *valid > 0.0).map(|(token, _)| token).collect()
    };
    let prompts: Vec<Vec<i64>> = (0..tokens.size()[0]).map(prompt).collect();
    let features = model.encode_images(case.get("images"));
    let prompts = model.prompts(&prompts, Some(&features), Device::Cpu).unwrap();
    let limits = Limits { end_tokens: Vec::new(), max_new_tokens: 6 };
    let answers = generate(model.language(), &prompts, Decoding::Greedy, &limits).unwrap();
    for (row, answer) in answers.iter().enumerate() {
        let theirs = Vec::<i64>::try_from(case.get("greedy").get(row as i64).to_kind(Kind::Int64)).unwrap();
        assert_eq!(*answer, theirs, "text {row}");
    }
}

#[test]
fn a_stack_of_two_runs_matches_separate_runs() {
    let case = Case::read();
    let lora = method("lora", json!({"rank": 2, "targets": ["q", "down", "projector"]}));
    let prepare = |seeds: &[u64]| {
        methods::prepare(&*lora, &[], &case.model_spec, &case.parts.rest, 0, seeds, Device::Cpu).unwrap()
    };
    let (stacked, _) = prepare(&[1, 2]);
    perturb(&stacked);
    let adapters = lora.attach(&case.model_spec, &case.parts.rest, &stacked).unwrap();
    let model = case.model(&adapters);
    let features = model.encode_images(case.get("images"));
    let twice = |tensor: &Tensor| Tensor::cat(&[tensor, tensor], 0);
    let together = no_grad(|| {
        model.forward(&twice(&case.tokens()), Some(&twice(&features)), Some(&twice(&case.valid()))).unwrap()
    });
    for run in 0..2 {
        let (alone, _) = prepare(&[1]);
        no_grad(|| alone.values().shallow_clone().copy_(&stacked.values().narrow(0, run, 1)));
        let adapters = lora.attach(&case.model_spec, &case.parts.rest, &alone).unwrap();
        let single = no_grad(|| case.logits(&case.model(&adapters)));
        let ours = together.narrow(0, 3 * run, 3) * case.valid().unsqueeze(-1);
        assert_close("run", &ours, &single, 1e-4);
    }
}

/// Perturbs every trained tensor.
fn perturb(trainables: &Trainables) {
    let values = trainables.values();
    let noise: Vec<f32> = (0..values.numel()).map(|n| (n as f32 * 0.7).sin() * 0.1).collect();
    let noise = Tensor::from_slice(&noise).view_as(values);
    no_grad(|| {
        let _ = values.shallow_clone().g_add_(&noise);
    });
}

#[test]
fn methods_start_as_the_frozen_model_and_merge_into_loadable_files() {
    let case = Case::read();
    let all = json!(["q", "k", "v", "proj", "gate", "up", "down", "projector"]);
    for (name, options) in [
        ("san", json!({"wiring": "full"})),
        ("lora", json!({"rank": 2, "targets": all})),
        ("dora", json!({"rank": 2, "targets": all})),
        ("san_lora", json!({"host": {"rank": 2, "targets": all}})),
    ] {
        let (trainables, adapters) = prepared(&case, name, options.clone());
        let start = no_grad(|| case.logits(&case.model(&adapters)));
        assert_close(name, &start, &case.expected(), TOLERANCE);
        perturb(&trainables);
        let adapters = method(name, options).attach(&case.model_spec, &case.parts.rest, &trainables).unwrap();
        let tuned = no_grad(|| case.logits(&case.model(&adapters)));
        assert!(f64::try_from((&tuned - &start).abs().max()).unwrap() > 1e-2, "{name}");
        let rest = merge(&case.model_spec, &case.parts.rest, &adapters, &trainables, 0).unwrap();
        let parts = Parts { tower: case.parts.tower.shallow_clone(), rest };
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &case.architecture, &parts);
        let read = weights::llava(folder.path(), weights::Target::default()).unwrap();
        let config = |architecture: &Architecture| architecture.published_config().unwrap();
        assert_eq!(config(&read.architecture), config(&case.architecture));
        let again = Case { parts: read.parts, architecture: read.architecture, ..Case::read() };
        let merged = no_grad(|| again.logits(&again.model(&AdapterSet::default())));
        assert_close(name, &merged, &tuned, 3e-4);
        loads_in_transformers(&case, &merged, folder.path());
    }
}

fn write(folder: &Path, architecture: &Architecture, parts: &Parts) {
    let tensors = Architecture::published(parts);
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_tensors(&folder.join("model.safetensors"), named, ("format", "pt".into()), Kind::Float).unwrap();
    std::fs::write(folder.join("config.json"), architecture.published_config().unwrap().to_string()).unwrap();
}

/// Runs transformers itself if available: `SAN_PYTHON` is a Python with tools/requirements.txt.
fn loads_in_transformers(case: &Case, logits: &Tensor, folder: &Path) {
    let Some(python) = std::env::var_os("SAN_PYTHON") else {
        skipped::report("SAN_PYTHON is not set");
        return;
    };
    let expected = [
        ("scores", logits),
        ("tokens", case.get("tokens")),
        ("valid", case.get("valid")),
        ("images", case.get("images")),
    ];
    let file = folder.join("expected.safetensors");
    write_tensors(&file, expected, ("format", "pt".into()), Kind::Float).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/check_llava.py");
    let output = std::process::Command::new(python).arg(script).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn tensor_names_of_the_original_release_are_supported() {
    let case = Case::read();
    let original = |name: String| {
        let name = name.replace("multi_modal_projector.linear_1.", "model.mm_projector.0.");
        let name = name.replace("multi_modal_projector.linear_2.", "model.mm_projector.2.");
        let name = name.strip_prefix("language_model.").map_or(name.clone(), str::to_owned);
        match name.strip_prefix("vision_tower.") {
            Some(bare) => format!("model.vision_tower.vision_tower.{bare}"),
            None => name,
        }
    };
    let tensors = || {
        let published = Architecture::published(&case.parts).into_iter();
        published.map(|(name, tensor)| (original(name), tensor)).collect::<BTreeMap<_, _>>()
    };
    assert!(tensors().contains_key("model.mm_projector.0.weight"));
    let parts = case.architecture.split(tensors(), "the files").unwrap();
    let same = |one: &Weights, other: &Weights| {
        assert!(one.iter().zip(other.iter()).all(|((a, x), (b, y))| a == b && x == y));
    };
    same(&parts.tower, &case.parts.tower);
    same(&parts.rest, &case.parts.rest);
    let mut without = tensors();
    without.remove("model.mm_projector.2.bias");
    let error = case.architecture.split(without, "the files").unwrap_err().to_string();
    assert!(error.contains("multi_modal_projector.linear_2.bias"), "{error}");
    let mut more = tensors();
    more.insert("model.image_newline".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
    let error = case.architecture.split(more, "the files").unwrap_err().to_string();
    assert!(error.contains("model.image_newline"), "{error}");
}

#[test]
fn mismatched_numbers_of_image_tokens_and_features_are_rejected() {
    let case = Case::read();
    let model = case.model(&AdapterSet::default());
    let features = model.encode_images(case.get("images"));
    let none = model.forward(&case.tokens(), None, None).unwrap_err();
    assert!(matches!(none, Error::ImageTokenCount { image_tokens: 8, features: 0 }), "{none}");
    let one = model.forward(&case.tokens(), Some(&features.narrow(0, 0, 1)), None).unwrap_err();
    assert!(one.to_string().contains("8") && one.to_string().contains("4"), "{one}");
}

#[test]
fn any_tower_can_be_combined_with_any_language_model() {
    tch::set_num_threads(1);
    let towers: Vec<Box<dyn backbones::Architecture>> = vec![
        Box::new(vit::Config::new(16, 8, 12, 2, 3)),
        Box::new(clip::Config::new(16, 8, 12, 2, 3)),
        registry::find("swin_micro").unwrap().architecture,
        registry::find("convnext_micro").unwrap().architecture,
    ];
    for tower in towers {
        // The image token is outside the vocabulary.
        let language = Arc::new(llama(Config::new(16, 24, 1, 2, 20)));
        let architecture = Architecture { tower, language, image_token: -200 };
        let weights = Weights::random(&architecture.tower.model_spec("tower"), 1).unwrap();
        let rest = Weights::random(&architecture.model_spec("llava"), 2).unwrap();
        let model = architecture.build(&weights, &ModelBuilder::new(&rest, &AdapterSet::default())).unwrap();
        let size = architecture.tower.image_size();
        let images = Tensor::randn([2, 3, size, size], (Kind::Float, Device::Cpu));
        let features = model.encode_images(&images);
        let count = architecture.tower.token_count();
        assert_eq!(features.size()[..2], [2, count]);
        let row: Vec<i64> =
            [1].into_iter().chain(std::iter::repeat_n(-200, count as usize)).chain([3]).collect();
        let tokens = Tensor::from_slice(&[row.clone(), row].concat()).view([2, -1]);
        let logits = no_grad(|| model.forward(&tokens, Some(&features), None).unwrap());
        assert_eq!(logits.size(), [2, count + 2, 20]);
        let zeros = features.zeros_like();
        let other = no_grad(|| model.forward(&tokens, Some(&zeros), None).unwrap());
        assert!(f64::try_from((logits - other).abs().max()).unwrap() > 1e-6);
    }
}
