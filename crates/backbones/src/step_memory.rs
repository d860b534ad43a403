//! The memory that a training and its evaluation need on the device, by parts, from shapes alone.
//!
//! One computation for every model and method: the model's forward pass on a tape ([`san_core::memory`]), the losses of the
//! task, and the buffers of the trainer.

use san_core::memory::layers::{Layers, Setting};
use san_core::memory::tape::{Operation, Value};
use san_core::methods::{self, Method};
use san_core::spec::model::TensorSpec;
use san_core::spec::trainable::TrainableSpec;
use san_core::{Error, ModelSpec};
use tch::Kind;

use crate::Architecture;
use crate::language::LanguageArchitecture;

const F32: i64 = 4;
const BF16: i64 = 2;
/// Elements of a trained tensor that an update in bf16 computes in f32 at a time (torch-ops), and the number of its
/// intermediate results.
const CHUNK: i64 = 1 << 23;
const CHUNK_RESULTS: i64 = 9;

/// What is trained, and how.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    /// The method.
    pub method: &'a dyn Method,
    /// Tensors that are trained in full in addition to it.
    pub modules_to_save: &'a [String],
    /// Number of runs that are trained together.
    pub stack: i64,
    /// Dtype of frozen weights and activations.
    pub kind: Kind,
    /// Dtype of trained tensors, gradients and moments: f32, or bf16 with a compensation of rounding in addition.
    pub state: Kind,
    /// Copies of the trained tensors that are kept: an average, the best so far.
    pub copies: i64,
    /// Whether it is computed on a GPU.
    pub on_gpu: bool,
}

/// A step of a language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanguageStep {
    /// Sequences of a run in a micro-batch.
    pub micro_batch: i64,
    /// Tokens of a sequence.
    pub length: i64,
    /// Whether a step has several micro-batches.
    pub accumulates: bool,
    /// Whether activations within a block are computed again in the backward pass.
    pub checkpointing: bool,
}

/// Generation of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// Prompts in a batch.
    pub prompts: i64,
    /// Tokens of a prompt.
    pub length: i64,
    /// Maximum number of tokens of an answer.
    pub new_tokens: i64,
    /// Number of beams; 1 for greedy decoding.
    pub beams: i64,
}

/// Bytes, by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Frozen weights, in every dtype that they are kept in.
    pub weights: i64,
    /// Trained tensors with their moments and copies.
    pub trained: i64,
    /// The most that activations and gradients of a step take at once.
    pub step: i64,
    /// The most that an evaluation takes at once: merged weights, activations, keys and values.
    pub evaluation: i64,
}

impl Need {
    /// The most that is in use at once.
    pub fn total(&self) -> i64 {
        self.weights + self.trained + self.step.max(self.evaluation)
    }
}

impl Training<'_> {
    fn width(&self) -> i64 {
        width(self.kind)
    }

    fn layers(&self, model_spec: &ModelSpec, stack: i64) -> Result<Layers, Error> {
        let mut trained: std::collections::BTreeSet<String> =
            self.trainables(model_spec)?.into_iter().map(|spec| spec.name).collect();
        trained.extend(model_spec.head.iter().flat_map(|head| head.tensors()));
        Ok(Layers::new(Setting {
            stack,
            width: self.width(),
            trained_width: width(self.state),
            on_gpu: self.on_gpu,
            effects: self.method.effects(model_spec)?,
            trained,
        }))
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        methods::trainables_with(self.method, self.modules_to_save, model_spec)
    }

    /// Trained numbers of a run, with a head for `classes` classes.
    fn count(&self, model_spec: &ModelSpec, classes: i64) -> Result<i64, Error> {
        let head = model_spec.head.as_ref().map_or(0, |head| classes * (head.features + 1));
        Ok(self.trainables(model_spec)?.iter().map(TrainableSpec::count).sum::<i64>() + head)
    }

    /// Trained tensors, moments and copies; constants of the method.
    fn trained(&self, model_spec: &ModelSpec, classes: i64) -> Result<i64, Error> {
        let count = self.stack * self.count(model_spec, classes)?;
        let constants: i64 = self.method.constants(model_spec)?.iter().map(TrainableSpec::count).sum();
        // With a state in bf16, copies are in main memory.
        let state = if self.state == Kind::BFloat16 { 4 * BF16 } else { (3 + self.copies) * F32 };
        Ok(count * state + constants * F32)
    }

    /// The most of a step with activations that need `activations`, on inputs of `inputs` bytes: gradients tensor by tensor,
    /// their buffer, and the sum over micro-batches.
    fn step(&self, activations: i64, inputs: i64, count: i64, accumulates: bool) -> i64 {
        let gradients = self.stack * count * width(self.state);
        if self.state == Kind::BFloat16 {
            let update = CHUNK_RESULTS * F32 * CHUNK.min(count);
            return activations + update + if accumulates { gradients } else { 0 };
        }
        if accumulates {
            return (activations + gradients).max(inputs + 4 * gradients);
        }
        activations.max(inputs + 2 * gradients)
    }

    /// Weights that a merged model has of its own, if frozen ones are kept in dtype `kept`. It shares what is trained in
    /// full, unless that is cast.
    fn merged(&self, model_spec: &ModelSpec, kept: Kind) -> Result<i64, Error> {
        if self.method.unmergeable().is_some() {
            return Ok(0);
        }
        let (effects, trained) = (self.method.effects(model_spec)?, self.trainables(model_spec)?);
        let cast = |kind: Kind| if kind == self.kind { 0 } else { self.width() };
        let own = |name: &str| {
            let site = name.rsplit_once('.').map_or("", |(site, _)| site);
            if trained.iter().any(|spec| spec.name == name) {
                cast(self.state)
            } else if effects.sites.contains_key(site) {
                width(kept) + cast(kept)
            } else {
                0
            }
        };
        let bytes = |tensor: &TensorSpec| own(&tensor.name) * tensor.shape.iter().product::<i64>();
        Ok(model_spec.tensors.iter().map(bytes).sum())
    }
}

fn width(kind: Kind) -> i64 {
    if kind == Kind::BFloat16 { BF16 } else { F32 }
}

/// What a classifier needs, with `batch` images of each run in a step, and `evaluated` images of all runs in a batch of an
/// evaluation.
///
/// # Errors
/// If the method is not compatible with the backbone.
pub fn classifier(
    architecture: &dyn Architecture,
    classes: i64,
    [batch, evaluated]: [i64; 2],
    training: &Training<'_>,
) -> Result<Need, Error> {
    let model_spec = architecture.model_spec("the backbone");
    let pixels = 3 * architecture.image_size().pow(2);
    let parameters = model_spec.parameters();
    // The weights are read in f32.
    let second_copy = if training.kind == Kind::BFloat16 { BF16 } else { 0 };
    let forward = |layers: &Layers, images: &Value| {
        let features = layers.cast(&architecture.trace_features(layers, images), F32);
        let head = model_spec.head.as_ref();
        let name = head.map_or_else(String::new, |head| format!("{}.weight", head.name));
        layers.linear(&features, &name, [classes, head.map_or(1, |head| head.features)], true)
    };
    let count = training.count(&model_spec, classes)?;
    let step = if training.method.features_are_frozen() {
        training.step(0, 0, count, false)
    } else {
        let layers = training.layers(&model_spec, training.stack)?;
        let images = layers.tape.input(training.stack * batch * pixels, F32);
        let logits = forward(&layers, &images);
        layers.tape.backward(logits, None);
        training.step(layers.tape.peak(), images.bytes(), count, false)
    };
    let layers = training.layers(&model_spec, training.stack)?;
    let evaluated = (evaluated / training.stack).max(1) * training.stack;
    let images = layers.tape.input(evaluated * pixels, F32);
    drop(layers.tape.no_grad(|| forward(&layers, &images)));
    Ok(Need {
        weights: parameters * (F32 + second_copy),
        trained: training.trained(&model_spec, classes)?,
        step,
        evaluation: training.merged(&model_spec, Kind::Float)? + layers.tape.peak(),
    })
}

/// What a language model needs; `model_spec` is what the method sees of it, and `tower` the number of parameters of its
/// vision tower.
///
/// # Errors
/// If the method is not compatible with the model.
pub fn language(
    model: &dyn LanguageArchitecture,
    model_spec: &ModelSpec,
    tower: i64,
    step: LanguageStep,
    generation: Generation,
    training: &Training<'_>,
) -> Result<Need, Error> {
    let count = training.count(model_spec, 0)?;
    let width = training.width();
    let is_moved = training.on_gpu && training.state == Kind::BFloat16 && count == model_spec.parameters();
    let weights = if is_moved { 0 } else { model_spec.parameters() * width };
    let activations = activations_of(model, model_spec, step, training)?;
    Ok(Need {
        weights: weights + tower * width,
        trained: training.trained(model_spec, 0)?,
        step: training.step(activations, 0, count, step.accumulates),
        evaluation: training.merged(model_spec, training.kind)?
            + generated(model, model_spec, generation, training)?,
    })
}

/// Activations and gradients of a micro-batch.
fn activations_of(
    model: &dyn LanguageArchitecture,
    model_spec: &ModelSpec,
    step: LanguageStep,
    training: &Training<'_>,
) -> Result<i64, Error> {
    let layers = training.layers(model_spec, training.stack)?;
    let sequences = training.stack * step.micro_batch;
    let predicted = sequences * (step.length - 1).max(1);
    let losses = |hidden: &Value| losses(model, &layers, hidden, predicted);
    let embedded = model.trace_embedding(&layers, sequences * step.length);
    if !step.checkpointing {
        let last =
            (0..model.blocks()).fold(embedded.clone(), |x, index| model.trace_block(&layers, index, &x));
        let hidden = model.trace_norm(&layers, &last);
        drop((last, embedded));
        let losses = losses(&hidden);
        drop(hidden);
        layers.tape.backward(losses, None);
        return Ok(layers.tape.peak());
    }
    let uses_at_once = training.state == Kind::BFloat16;
    let stage = |index: i64, x: &Value| match index {
        index if index < model.blocks() => model.trace_block(&layers, index, x),
        _ => model.trace_norm(&layers, x),
    };
    let mut inputs = vec![embedded];
    for index in 0..=model.blocks() {
        let next = layers.tape.no_grad(|| stage(index, &inputs[inputs.len() - 1]));
        inputs.push(next);
    }
    let hidden = layers.tape.leaf(&inputs[inputs.len() - 1]);
    inputs.pop();
    let mut gradient = layers.tape.backward(losses(&hidden), Some(&hidden));
    drop(hidden);
    for index in (0..=model.blocks()).rev() {
        let Some(of_output) = gradient.take() else { break };
        let Some(input) = inputs.pop() else { break };
        if uses_at_once {
            layers.tape.use_gradients();
        }
        let input = layers.tape.leaf(&input);
        let output = stage(index, &input);
        // The scalar whose gradient is that of the stage.
        let product = layers.multiply(&output, &of_output);
        drop(output);
        gradient = layers.tape.backward(product, Some(&input));
    }
    Ok(layers.tape.peak())
}

/// The losses of the tokens after `predicted` positions.
fn losses(model: &dyn LanguageArchitecture, layers: &Layers, hidden: &Value, predicted: i64) -> Value {
    let elements = predicted * model.channels();
    let selected = {
        let flat = layers.copied(hidden, elements);
        layers.copied(&flat, elements)
    };
    let logits = model.trace_logits(layers, &selected);
    let Value { elements, width, .. } = logits;
    let shares = layers.tape.apply(Operation {
        inputs: &[&logits],
        elements,
        width,
        keeps_result: true,
        ..Operation::default()
    });
    layers.tape.apply(Operation { inputs: &[&shares], elements: predicted, width, ..Operation::default() })
}

/// Activations of the prompts, the cache of keys and values, and logits.
fn generated(
    model: &dyn LanguageArchitecture,
    model_spec: &ModelSpec,
    generation: Generation,
    training: &Training<'_>,
) -> Result<i64, Error> {
    let Generation { prompts, length, new_tokens, beams } = generation;
    let alone = Training { stack: 1, ..*training };
    let layers = alone.layers(model_spec, 1)?;
    let cache = (length + new_tokens) * model.cached_channels() * training.width();
    let activations = layers.tape.no_grad(|| {
        let embedded = model.trace_embedding(&layers, prompts * length);
        let last = (0..model.blocks()).fold(embedded, |x, index| model.trace_block(&layers, index, &x));
        drop(model.trace_norm(&layers, &last));
        layers.tape.peak()
    });
    // Logits, their logarithms, and sums over beams.
    let logits = 3 * prompts * beams * model.vocabulary() * F32;
    Ok((activations + prompts * cache).max(prompts * beams * cache + logits))
}
