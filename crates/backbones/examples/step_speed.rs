//! Speed of training steps: `step_speed MODEL BATCH LENGTH PRECISION STEPS DEVICE THREADS METHOD...` prints a line of JSON
//! for each METHOD, which is `<name>[:<options as JSON>][@<runs>]`. tools/compare_speed.py calls it and does the same with
//! timm, transformers and peft.
//!
//! MODEL is an image classifier of the registry, or `llama-135m`, `llama-1b` or `llama-7b`: the shapes of SmolLM2-135M,
//! LLaMA-3.2-1B and LLaMA-7B, on LENGTH tokens. Weights are random. A step is a forward pass, a backward pass and AdamW, in
//! a group of `runs` runs. The peak memory is that of all tensors; next to it is what is planned for it from shapes.
//! `operations` counts those of libtorch in a step, without views: most start a kernel on a GPU. With SAN_OPERATIONS in the
//! environment, they are printed by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

use std::time::Instant;

use backbones::language::LanguageArchitecture;
use backbones::language::decoder;
use backbones::language::llama::llama;
use backbones::registry;
use backbones::step_memory::{self, Generation, LanguageStep, Training};
use backbones::vision::Classifier;
use san_core::methods;
use san_core::nn::builder::ModelBuilder;
use san_core::train::adamw::{AdamW, AdamWSettings};
use san_core::{ModelSpec, Trainables, Weights};
use serde_json::{Value, json};
use tch::{Cuda, Device, Kind, Reduction, Tensor};
use torch_ops::PeakMemory;

const CLASSES: i64 = 10;
const WARM_UP: usize = 3;

struct Setting {
    model: String,
    batch: i64,
    length: i64,
    kind: Kind,
    steps: usize,
    device: Device,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, batch, length, precision, steps, device, threads, methods @ ..] = &arguments[..] else {
        panic!("step_speed MODEL BATCH LENGTH PRECISION STEPS DEVICE THREADS METHOD...")
    };
    tch::set_num_threads(threads.parse().unwrap());
    torch_ops::load_cuda();
    torch_ops::allow_tf32(precision == "tf32");
    let setting = Setting {
        model: model.clone(),
        batch: batch.parse().unwrap(),
        length: length.parse().unwrap(),
        kind: if precision == "bf16" { Kind::BFloat16 } else { Kind::Float },
        steps: steps.parse().unwrap(),
        device: if device == "cuda" { Device::Cuda(0) } else { Device::Cpu },
    };
    for method in methods {
        let (name, runs) = method.rsplit_once('@').unwrap_or((method, "1"));
        let (name, options) = name.split_once(':').unwrap_or((name, "{}"));
        let Value::Object(options) = serde_json::from_str(options).unwrap() else { panic!("{options}") };
        let method = methods::find(name, options).unwrap();
        let runs: i64 = runs.parse().unwrap();
        println!("{}", setting.measure(&*method, runs));
    }
}

fn language(model: &str) -> Option<Box<dyn LanguageArchitecture>> {
    let config = match model {
        "llama-135m" => decoder::Config {
            num_key_value_heads: Some(3),
            tie_word_embeddings: true,
            ..decoder::Config::new(576, 1536, 30, 9, 49_152)
        },
        "llama-1b" => decoder::Config {
            num_key_value_heads: Some(8),
            tie_word_embeddings: true,
            ..decoder::Config::new(2048, 8192, 16, 32, 128_256)
        },
        "llama-7b" => decoder::Config::new(4096, 11_008, 32, 32, 32_000),
        _ => return None,
    };
    Some(Box::new(llama(config)))
}

impl Setting {
    fn measure(&self, method: &dyn methods::Method, runs: i64) -> Value {
        let language = language(&self.model);
        let (model_spec, samples) = match &language {
            Some(language) => (language.model_spec(&self.model), self.batch * self.length),
            None => (registry::find(&self.model).unwrap().architecture.model_spec(&self.model), self.batch),
        };
        let planned = self.planned(method, runs, language.as_deref(), &model_spec);
        let peak = PeakMemory::start();
        let weights = self.weights(&model_spec, language.is_some());
        let seeds: Vec<u64> = (0..runs.unsigned_abs()).collect();
        let classes = if language.is_some() { 0 } else { CLASSES };
        let trainables = methods::allocate(
            method,
            &[],
            &model_spec,
            &weights,
            classes,
            &seeds,
            (Kind::Float, self.device),
        )
        .unwrap();
        let used = weights.to_kind(self.kind).unwrap();
        let adapters = methods::attach(method, &[], &model_spec, &used, &trainables).unwrap();
        let losses: Box<dyn Fn() -> Tensor> = match &language {
            Some(language) => {
                let model = language.build(&ModelBuilder::new(&used, &adapters)).unwrap();
                let tokens = Tensor::randint_low(
                    0,
                    1000,
                    [runs * self.batch, self.length],
                    (Kind::Int64, self.device),
                );
                Box::new(move || {
                    let hidden = model.hidden(&model.embed(&tokens), None, None);
                    let length = tokens.size()[1] - 1;
                    let logits = model.logits(&hidden.narrow(1, 0, length).flatten(0, 1));
                    let next = tokens.narrow(1, 1, length).flatten(0, 1);
                    logits.cross_entropy_loss(&next, None::<Tensor>, Reduction::Mean, -100, 0.0)
                })
            }
            None => {
                let architecture = registry::find(&self.model).unwrap().architecture;
                let model =
                    Classifier::new(&*architecture, &model_spec, &used, &adapters, &trainables).unwrap();
                let size = architecture.image_size();
                let images = Tensor::randn([runs * self.batch, 3, size, size], (Kind::Float, self.device));
                let labels = Tensor::zeros([runs * self.batch], (Kind::Int64, self.device));
                Box::new(move || model.forward(&images).cross_entropy_for_logits(&labels))
            }
        };
        let mut line = self.timed(method, runs, samples, &trainables, &*losses);
        if self.device == Device::Cpu {
            line["peak_mib"] = (peak.bytes() >> 20).into();
        }
        line["planned_mib"] = planned.into();
        line
    }

    /// The memory of these steps, computed from shapes.
    fn planned(
        &self,
        method: &dyn methods::Method,
        stack: i64,
        language: Option<&dyn LanguageArchitecture>,
        model_spec: &ModelSpec,
    ) -> i64 {
        let on_gpu = self.device != Device::Cpu;
        let (kind, state) = (self.kind, Kind::Float);
        let training = Training { method, modules_to_save: &[], stack, kind, state, copies: 0, on_gpu };
        let need = match language {
            Some(language) => {
                let (micro_batch, length) = (self.batch, self.length);
                let step = LanguageStep { micro_batch, length, accumulates: false, checkpointing: false };
                let generation = Generation { prompts: 1, length: 1, new_tokens: 1, beams: 1 };
                step_memory::language(language, model_spec, 0, step, generation, &training).unwrap()
            }
            None => {
                let architecture = registry::find(&self.model).unwrap().architecture;
                step_memory::classifier(&*architecture, CLASSES, [self.batch, 1], &training).unwrap()
            }
        };
        (need.weights + need.trained + need.step) >> 20
    }

    /// Random weights; a large model's are made on the device, in the dtype that they are used in.
    fn weights(&self, model_spec: &ModelSpec, large: bool) -> Weights {
        if !large {
            return Weights::random(model_spec, 0).unwrap().to_device(self.device).unwrap();
        }
        let kind = |dim: usize| if dim > 1 { self.kind } else { Kind::Float };
        let random = |spec: &san_core::spec::model::TensorSpec| {
            let options = (kind(spec.shape.len()), self.device);
            let tensor = if spec.shape.len() > 1 {
                Tensor::randn(spec.shape.as_slice(), options) * 0.02
            } else {
                Tensor::ones(spec.shape.as_slice(), options)
            };
            (spec.name.clone(), tensor)
        };
        Weights::new(model_spec.tensors.iter().map(random).collect())
    }

    fn timed(
        &self,
        method: &dyn methods::Method,
        runs: i64,
        samples: i64,
        trainables: &Trainables,
        losses: &dyn Fn() -> Tensor,
    ) -> Value {
        let mut optimiser = AdamW::new(trainables, AdamWSettings::default()).unwrap();
        let rates = Tensor::full([runs, 1], 1e-4, (Kind::Float, self.device));
        let wait = || {
            if let Device::Cuda(index) = self.device {
                Cuda::synchronize(index as i64);
            }
        };
        let mut one = |step: usize| {
            let gradient =
                trainables.pass().training(step as u64, || trainables.gradient(&losses())).unwrap();
            optimiser.step(trainables, &gradient, &rates, None).unwrap();
        };
        let mut start = Instant::now();
        for step in 0..WARM_UP + self.steps {
            if step == WARM_UP {
                wait();
                start = Instant::now();
            }
            one(step);
        }
        wait();
        let seconds = start.elapsed().as_secs_f64() / self.steps as f64;
        let peak = torch_ops::peak_memory(self.device).unwrap().map(|bytes| bytes >> 20);
        let _ = torch_ops::reset_peak_memory(self.device);
        let operations = torch_ops::operations_of(|| one(WARM_UP + self.steps));
        if std::env::var_os("SAN_OPERATIONS").is_some() {
            eprintln!("{operations:#?}");
        }
        json!({
            "method": method.name(),
            "runs": runs,
            "per_second": (runs * samples) as f64 / seconds,
            "milliseconds": seconds * 1e3,
            "peak_mib": peak,
            "operations": operations.values().sum::<u64>(),
        })
    }
}
