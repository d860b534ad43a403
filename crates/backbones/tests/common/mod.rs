//! Fixtures of tools/parity_fixtures.py, and models with any method built from them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    unreachable_pub,
    missing_docs
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use backbones::Architecture;
use backbones::language::{LanguageArchitecture, LanguageModel, configure};
use backbones::vision::Classifier;
use backbones::vision::convnext;
use backbones::vision::swin;
use backbones::vision::vit;
use san_core::io::safetensors::TensorFile;
use san_core::methods::{self, Method};
use san_core::nn::builder::ModelBuilder;
use san_core::spec::model::HeadSpec;
use san_core::{AdapterSet, ModelSpec, Trainables, Weights};
use serde_json::Value;
use tch::{Device, Kind, Tensor, no_grad};

/// The architecture of a fixture.
pub enum Configured {
    Image(Box<dyn Architecture>),
    Language(Arc<dyn LanguageArchitecture>),
}

impl Configured {
    pub fn model_spec(&self, name: &str) -> ModelSpec {
        match self {
            Self::Image(config) => config.model_spec(name),
            Self::Language(config) => config.model_spec(name),
        }
    }

    pub fn image(&self) -> &dyn Architecture {
        match self {
            Self::Image(config) => &**config,
            Self::Language(_) => panic!("a language model"),
        }
    }

    /// A model with trained tensors.
    pub fn model(
        &self,
        model_spec: &ModelSpec,
        weights: &Weights,
        adapters: &AdapterSet,
        trainables: &Trainables,
    ) -> Model {
        match self {
            Self::Image(config) => Model::Classifier(
                Classifier::new(&**config, model_spec, weights, adapters, trainables).unwrap(),
            ),
            Self::Language(config) => {
                Model::Language(config.build(&ModelBuilder::new(weights, adapters)).unwrap())
            }
        }
    }

    /// A model from plain weights.
    pub fn merged(&self, model_spec: &ModelSpec, weights: &Weights) -> Model {
        match self {
            Self::Image(config) => {
                Model::Classifier(Classifier::merged(&**config, model_spec, weights).unwrap())
            }
            Self::Language(config) => {
                Model::Language(config.build(&ModelBuilder::new(weights, &AdapterSet::default())).unwrap())
            }
        }
    }
}

/// A model that computes logits, per class or per token.
pub enum Model {
    Classifier(Classifier),
    Language(Box<dyn LanguageModel>),
}

impl Model {
    pub fn forward(&self, input: &Tensor) -> Tensor {
        match self {
            Self::Classifier(model) => model.forward(input),
            Self::Language(model) => model.forward(&input.to_kind(Kind::Int64), None),
        }
    }

    pub fn features(&self, input: &Tensor) -> Tensor {
        match self {
            Self::Classifier(model) => model.features(input),
            Self::Language(_) => panic!("a language model"),
        }
    }
}

pub struct Fixture {
    pub config: Configured,
    pub settings: Value,
    pub file: TensorFile,
}

impl Fixture {
    pub fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let file = TensorFile::read(&folder.join(format!("{name}.safetensors"))).unwrap();
        let settings: Value = serde_json::from_str(&file.metadata["config"]).unwrap();
        Self { config: config_of(&settings), settings, file }
    }

    pub fn get(&self, name: &str) -> &Tensor {
        self.file.tensors.get(name).unwrap_or_else(|| panic!("no {name} in the fixture"))
    }

    /// The tensors whose names start with `prefix`, with it stripped.
    pub fn under(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let strip = |(name, tensor): (&String, &Tensor)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone()))
        };
        self.file.tensors.iter().filter_map(strip).collect()
    }
}

/// The fixture's settings, restricted to the model's arguments.
fn config_of(settings: &Value) -> Configured {
    if settings.get("vocab_size").is_some() {
        return Configured::Language(configure(settings.clone()).unwrap());
    }
    let mut arguments = settings.as_object().unwrap().clone();
    let size = arguments.remove("input_size").filter(|size| !size.is_null());
    arguments.remove("num_classes");
    if let Some(size) = size {
        arguments.insert("img_size".into(), size);
    }
    let architecture = arguments.remove("architecture").unwrap();
    let arguments = Value::Object(arguments);
    Configured::Image(match architecture.as_str().unwrap() {
        "vit" => Box::new(serde_json::from_value::<vit::Config>(arguments).unwrap()),
        "swin" => Box::new(serde_json::from_value::<swin::Config>(arguments).unwrap()),
        "convnext" => Box::new(serde_json::from_value::<convnext::Config>(arguments).unwrap()),
        other => panic!("no architecture {other}"),
    })
}

pub struct Tuned {
    pub model_spec: ModelSpec,
    pub weights: Weights,
    pub trainables: Trainables,
    pub adapters: AdapterSet,
    pub model: Model,
}

/// A model with `method` whose trained tensors are set to `values` (one map per run).
pub fn tuned(
    config: &Configured,
    base: &Fixture,
    method: &dyn Method,
    values: &[BTreeMap<String, Tensor>],
) -> Tuned {
    // Small tensors: a second thread would cost more than it saves.
    tch::set_num_threads(1);
    let model_spec = config.model_spec("test");
    let mut all = base.under("weights.");
    let head_names = model_spec.head.as_ref().map(HeadSpec::tensors);
    let head: BTreeMap<_, _> =
        head_names.into_iter().flatten().map(|name| (name.clone(), all.remove(&name).unwrap())).collect();
    let classes = head.values().map(|tensor| tensor.size()[0]).next().unwrap_or(0);
    let weights = match config {
        Configured::Image(config) => config.fit(Weights::new(all)).unwrap(),
        Configured::Language(_) => Weights::new(all),
    };
    weights.check(&model_spec, "the fixture").unwrap();
    let seeds: Vec<u64> = (0..values.len() as u64).collect();
    let (trainables, adapters) =
        methods::prepare(method, &[], &model_spec, &weights, classes, &seeds, Device::Cpu).unwrap();
    for (run, values) in values.iter().enumerate() {
        for (name, value) in head.iter().chain(values) {
            let target = trainables.get(name).unwrap().get(run as i64);
            assert_eq!(target.size(), value.size(), "{name}");
            no_grad(|| target.detach().copy_(value));
        }
    }
    let model = config.model(&model_spec, &weights, &adapters, &trainables);
    Tuned { model_spec, weights, trainables, adapters, model }
}

impl Tuned {
    /// Gradient of (logits * probe).sum() by name, for one run.
    pub fn gradients(&self, input: &Tensor, probe: &Tensor) -> BTreeMap<String, Tensor> {
        let loss = (self.model.forward(input) * probe).sum(None);
        let flat = self.trainables.gradient(&loss).unwrap();
        let mut offset = 0;
        let mut gradients = BTreeMap::new();
        for (spec, _) in self.trainables.iter() {
            let part = flat.get(0).narrow(0, offset, spec.count()).view(spec.shape.as_slice());
            gradients.insert(spec.name.clone(), part);
            offset += spec.count();
        }
        gradients
    }
}

pub fn method(name: &str, options: Value) -> Box<dyn Method> {
    methods::find(name, options.as_object().unwrap().clone()).unwrap()
}

#[track_caller]
pub fn assert_close(name: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.size(), theirs.size(), "{name}");
    let difference = f64::try_from((ours - theirs).abs().max()).unwrap();
    assert!(difference < tolerance, "{name} differs by {difference:.2e}");
}
