//! The memory of a training step that `step_memory` computes from shapes is what libtorch's allocator hands out, within 15 %,
//! for every method, every family of models, one run and several, in f32 and bf16.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

use backbones::language::LanguageArchitecture;
use backbones::language::decoder;
use backbones::language::llama::llama;
use backbones::step_memory::{self, Generation, LanguageStep, Training};
use backbones::vision::{Classifier, convnext, swin, vit};
use backbones::{Architecture, checkpointing};
use san_core::methods::{self, Method, REGISTRY};
use san_core::nn::builder::ModelBuilder;
use san_core::train::adamw::{AdamW, AdamWSettings};
use san_core::train::gradients::{GradientSum, differentiate};
use san_core::{ModelSpec, Weights};
use serde_json::{Value, json};
use tch::{Device, Kind, Reduction, Tensor};
use torch_ops::PeakMemory;

const CLASSES: i64 = 10;
const TOLERANCE: f64 = 0.15;

/// A model that a step is measured of, and its batch.
enum Model {
    Image(Box<dyn Architecture>, i64),
    Language(Box<dyn LanguageArchitecture>, LanguageStep),
}

/// A method with options, a number of runs, and a dtype.
struct Case {
    method: Box<dyn Method>,
    stack: i64,
    kind: Kind,
}

impl Case {
    fn new(name: &str, options: Value, stack: i64, kind: Kind) -> Self {
        let Value::Object(options) = options else { panic!("options") };
        Self { method: methods::find(name, options).unwrap(), stack, kind }
    }

    fn training(&self) -> Training<'_> {
        Training {
            method: &*self.method,
            modules_to_save: &[],
            stack: self.stack,
            kind: self.kind,
            state: Kind::Float,
            copies: 0,
            on_gpu: false,
        }
    }
}

impl Model {
    fn model_spec(&self) -> ModelSpec {
        match self {
            Self::Image(model, _) => model.model_spec("measured"),
            Self::Language(model, _) => model.model_spec("measured"),
        }
    }

    fn computed(&self, case: &Case) -> i64 {
        let need = match self {
            Self::Image(model, batch) => {
                step_memory::classifier(&**model, CLASSES, [*batch, 1], &case.training()).unwrap()
            }
            Self::Language(model, step) => {
                let generation = Generation { prompts: 1, length: 1, new_tokens: 1, beams: 1 };
                step_memory::language(&**model, &self.model_spec(), 0, *step, generation, &case.training())
                    .unwrap()
            }
        };
        need.trained + need.step
    }

    fn measured(&self, case: &Case, frozen: &Weights) -> i64 {
        let model_spec = self.model_spec();
        let weights = frozen.to_kind(case.kind).unwrap();
        let seeds: Vec<u64> = (0..case.stack.unsigned_abs()).collect();
        let options = (Kind::Float, Device::Cpu);
        let classes = if matches!(self, Self::Image(..)) { CLASSES } else { 0 };
        let peak = PeakMemory::start();
        let trainables =
            methods::allocate(&*case.method, &[], &model_spec, frozen, classes, &seeds, options).unwrap();
        let adapters = methods::attach(&*case.method, &[], &model_spec, &weights, &trainables).unwrap();
        let mut optimiser = AdamW::new(&trainables, AdamWSettings::default()).unwrap();
        let builder = ModelBuilder::new(&weights, &adapters);
        let gradient = trainables.pass().clone().training(0, || match self {
            Self::Image(architecture, batch) => {
                let model =
                    Classifier::new(&**architecture, &model_spec, &weights, &adapters, &trainables).unwrap();
                let size = architecture.image_size();
                let images = Tensor::rand([case.stack * batch, 3, size, size], options);
                let logits = model.forward(&images);
                let losses = logits
                    .cross_entropy_for_logits(&Tensor::zeros(logits.size()[0], (Kind::Int64, Device::Cpu)));
                drop(logits);
                let gradient = trainables.gradient(&losses).unwrap();
                drop(images);
                gradient
            }
            Self::Language(architecture, step) => {
                let model = architecture.build(&builder).unwrap();
                let shape = [case.stack * step.micro_batch, step.length];
                let tokens = Tensor::randint(architecture.vocabulary(), shape, (Kind::Int64, Device::Cpu));
                let losses = |hidden: &Tensor| {
                    let length = step.length - 1;
                    let places = Tensor::arange(shape[0] * length, (Kind::Int64, Device::Cpu));
                    let hidden = hidden.narrow(1, 0, length).flatten(0, 1).index_select(0, &places);
                    let next = tokens.narrow(1, 1, length).flatten(0, 1);
                    let logits = model.logits(&hidden);
                    logits.cross_entropy_loss(&next, None::<Tensor>, Reduction::Mean, -100, 0.0).view([1])
                };
                let mut sum = GradientSum::new(&trainables);
                if step.checkpointing {
                    let embedded = model.embed(&tokens);
                    let losses = |hidden: &Tensor| Ok(losses(hidden));
                    let _ = checkpointing::gradients(&*model, &trainables, &embedded, None, losses, &mut sum)
                        .unwrap();
                } else {
                    let loss = {
                        let embedded = model.embed(&tokens);
                        losses(&model.hidden(&embedded, None, None))
                    };
                    differentiate(&trainables, &loss, None, &mut sum).unwrap();
                }
                sum.finish().unwrap()
            }
        });
        let rates = Tensor::full([case.stack, 1], 1e-3, options);
        optimiser.step(&trainables, &gradient, &rates, None).unwrap();
        peak.bytes().cast_signed()
    }
}

fn vit() -> Model {
    Model::Image(Box::new(vit::Config::new(96, 16, 192, 3, 3)), 4)
}

fn swin() -> Model {
    Model::Image(Box::new(swin::Config::new(56, 48, &[2, 2], &[3, 6], 7)), 4)
}

fn convnext() -> Model {
    Model::Image(Box::new(convnext::Config::new(64, [1, 1, 2, 1], [48, 96, 192, 384])), 4)
}

fn llama_of(checkpointing: bool) -> Model {
    let config =
        decoder::Config { num_key_value_heads: Some(2), ..decoder::Config::new(256, 688, 4, 4, 1000) };
    let step = LanguageStep { micro_batch: 4, length: 64, accumulates: false, checkpointing };
    Model::Language(Box::new(llama(config)), step)
}

/// Methods that are also compared in bf16: one of each kind of what is kept.
const IN_BF16: [&str; 6] = ["fft", "lora", "dora", "ia3", "adapter", "san"];

/// Compares one model with every method that fits it.
fn compare(name: &str, model: &Model) {
    tch::set_num_threads(1);
    let model_spec = model.model_spec();
    let frozen = Weights::random(&model_spec, 0).unwrap();
    let mut wrong = Vec::new();
    let defaults = REGISTRY.iter().map(|info| (info.name, json!({})));
    let further = [
        ("lora", json!({"dropout": 0.1})),
        ("dora", json!({"dropout": 0.1})),
        ("san", json!({"wiring": "full"})),
    ];
    for (method, options) in defaults.chain(further) {
        for (stack, kind) in [(1, Kind::Float), (3, Kind::Float), (1, Kind::BFloat16)] {
            // Products in bf16 take long on processors that have none.
            if kind == Kind::BFloat16 && !IN_BF16.contains(&method) {
                continue;
            }
            let case = Case::new(method, options.clone(), stack, kind);
            if case.method.trainables(&model_spec).map_or(true, |trained| trained.is_empty()) {
                continue;
            }
            let (computed, measured) = (model.computed(&case), model.measured(&case, &frozen));
            let ratio = computed as f64 / measured as f64;
            let line = format!(
                "{name:24} {method:12} {options} K={stack} {kind:?}: computed {:.2} MB, measured {:.2} MB, {ratio:.3}",
                computed as f64 / 1e6,
                measured as f64 / 1e6
            );
            println!("{line}");
            if (ratio - 1.0).abs() > TOLERANCE {
                wrong.push(line);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn of_a_vit() {
    compare("vit", &vit());
}

#[test]
fn of_a_swin() {
    compare("swin", &swin());
}

#[test]
fn of_a_convnext() {
    compare("convnext", &convnext());
}

#[test]
fn of_a_decoder() {
    compare("llama", &llama_of(false));
}

#[test]
fn of_a_decoder_with_gradient_checkpointing() {
    compare("llama, checkpointing", &llama_of(true));
}
