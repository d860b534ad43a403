//! Language models: running and scoring them regardless of architecture.
//!
//! One file per architecture, with its published configurations; `generate` decodes with any of them. An architecture
//! is registered in `FAMILIES`, through which published folders, GGUF files and LLaVA's language model are read.

mod config;
pub mod decoder;
pub mod generate;
pub mod llama;
pub mod qwen2;
pub mod rope;

use std::collections::BTreeMap;
use std::sync::Arc;

use san_core::ModelSpec;
use san_core::memory::layers::Layers;
use san_core::memory::tape;
use san_core::nn::builder::ModelBuilder;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::Error;
use crate::workload::{Tokens, Workload};

/// The architectures that are supported.
const FAMILIES: [Family; 2] = [llama::FAMILY, qwen2::FAMILY];

/// The published models of one architecture.
pub(crate) struct Family {
    /// `model_type` of their configurations, and `general.architecture` of their GGUF files.
    pub(crate) model_type: &'static str,
    /// Configures a model from the contents of a `config.json`; the error is a clause that completes a message.
    pub(crate) configure: fn(Value) -> Result<Arc<dyn LanguageArchitecture>, String>,
    /// Whether the rows of q and k in GGUF files are ordered for a rotation of adjacent channels.
    pub(crate) adjacent_pairs_in_gguf: bool,
}

/// The architecture of that `model_type`; the error is a clause that completes a message.
pub(crate) fn family(model_type: &str) -> Result<&'static Family, String> {
    FAMILIES.iter().find(|family| family.model_type == model_type).ok_or_else(|| {
        let known: Vec<_> = FAMILIES.iter().map(|family| family.model_type).collect();
        format!("its architecture is `{model_type}`; supported architectures are {}", known.join(" and "))
    })
}

/// A model from the contents of a published `config.json`; the error is a clause that completes a message.
///
/// # Errors
/// If its architecture is not supported, or the configuration is malformed.
pub fn configure(published: Value) -> Result<Arc<dyn LanguageArchitecture>, String> {
    let model_type = published.get("model_type").and_then(Value::as_str);
    let family = family(model_type.ok_or("`model_type` is missing")?)?;
    (family.configure)(published)
}

/// A configured language model, before loading weights.
pub trait LanguageArchitecture: std::fmt::Debug + Send + Sync {
    /// Tensors, sites and norms; `name` is used in messages.
    fn model_spec(&self, name: &str) -> ModelSpec;

    /// Channels of a token.
    fn channels(&self) -> i64;

    /// Vocabulary size.
    fn vocabulary(&self) -> i64;

    /// Context length, in tokens.
    fn context(&self) -> i64;

    /// Number of blocks.
    fn blocks(&self) -> i64;

    /// The embedding of this many tokens, on a tape.
    fn trace_embedding(&self, layers: &Layers, tokens: i64) -> tape::Value;

    /// A block on a tape.
    fn trace_block(&self, layers: &Layers, index: i64, x: &tape::Value) -> tape::Value;

    /// The norm after the last block, on a tape.
    fn trace_norm(&self, layers: &Layers, x: &tape::Value) -> tape::Value;

    /// The counterpart of [`LanguageModel::logits`] on a tape.
    fn trace_logits(&self, layers: &Layers, hidden: &tape::Value) -> tape::Value;

    /// Channels of the cached keys and values of a token, in all blocks together.
    fn cached_channels(&self) -> i64;
    /// The products of a forward pass over some tokens.
    fn workload(&self, tokens: Tokens) -> Workload;

    /// Builds the model.
    ///
    /// # Errors
    /// If a tensor is missing.
    fn build(&self, builder: &ModelBuilder<'_>) -> Result<Box<dyn LanguageModel>, Error>;

    /// The configuration in the publisher's format, for exported files.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    fn published_config(&self) -> Result<Value, Error>;
}

/// Drops the output embedding of a model that ties it to the input embedding: some checkpoints store the tied matrix
/// twice.
pub(crate) fn drop_tied_output(model_spec: &ModelSpec, tensors: &mut BTreeMap<String, Tensor>) {
    const OUTPUT: &str = "lm_head.weight";
    if !model_spec.tensors.iter().any(|tensor| tensor.name == OUTPUT) {
        tensors.remove(OUTPUT);
    }
}

/// In `valid` of [`LanguageModel::hidden`]: a token that all later tokens may attend to.
pub const SHARED: i64 = 1;

/// A part of a forward pass, mapping activations to activations of the same shape.
pub type Stage<'a> = Box<dyn Fn(&Tensor) -> Tensor + 'a>;

/// A model that predicts the next token.
pub trait LanguageModel: std::fmt::Debug {
    /// Embeds tokens `[K * batch, length]` as input of the first block, `[K * batch, length, channels]`.
    fn embed(&self, tokens: &Tensor) -> Tensor;

    /// The last block's output after the final norm, `[K * batch, length, channels]`.
    ///
    /// `valid` `[K * batch, tokens before + length]` is false at padding, which may be on either side; `None`
    /// if there is no padding. Integer values also distinguish texts that share a prefix: 0 for padding,
    /// [`SHARED`] for the prefix, and from 2 the index of the text that a token belongs to; texts do not attend
    /// to each other, and each one's positions continue from the prefix. With a cache, the sequence continues
    /// after the cached tokens and is added to the cache.
    fn hidden(&self, embedded: &Tensor, valid: Option<&Tensor>, cache: Option<&mut Cache>) -> Tensor;

    /// The same as stages to run in sequence, from the input of the first block to the result of
    /// [`LanguageModel::hidden`]; only the shape, dtype and device of `embedded` are used.
    fn stages(&self, embedded: &Tensor, valid: Option<&Tensor>) -> Vec<Stage<'_>>;

    /// Next-token logits `[..., vocabulary]`.
    fn logits(&self, hidden: &Tensor) -> Tensor;

    /// Logits `[K * batch, length, vocabulary]` for the token after each of `tokens`.
    fn forward(&self, tokens: &Tensor, valid: Option<&Tensor>) -> Tensor {
        self.logits(&self.hidden(&self.embed(tokens), valid, None))
    }
}

/// Cached keys and values of processed tokens (KV cache).
#[derive(Debug, Default)]
pub struct Cache {
    layers: Vec<(Tensor, Tensor)>,
    /// Number of cached tokens.
    length: i64,
    /// Capacity, in tokens.
    capacity: i64,
}

impl Cache {
    /// An empty cache with capacity for `capacity` tokens.
    pub fn new(capacity: i64) -> Self {
        Self { layers: Vec::new(), length: 0, capacity }
    }

    /// Number of cached tokens.
    pub fn length(&self) -> i64 {
        self.length
    }

    /// Appends a layer's keys and values `[batch, heads, tokens, width]`; returns all cached ones.
    pub(crate) fn extend(&mut self, layer: usize, keys: &Tensor, values: &Tensor) -> (Tensor, Tensor) {
        let [batch, heads, tokens, width] = keys.size()[..] else {
            unreachable!("keys have four dimensions")
        };
        if layer == self.layers.len() {
            let empty = || Tensor::empty([batch, heads, self.capacity, width], (keys.kind(), keys.device()));
            self.layers.push((empty(), empty()));
        }
        let (cached_keys, cached_values) = &self.layers[layer];
        let append = |all: &Tensor, new: &Tensor| {
            all.narrow(2, self.length, tokens).copy_(new);
            all.narrow(2, 0, self.length + tokens)
        };
        (append(cached_keys, keys), append(cached_values, values))
    }

    /// Records that `tokens` tokens were added to every layer.
    pub(crate) fn advance(&mut self, tokens: i64) {
        self.length += tokens;
    }

    /// Keeps the batch rows `rows` `[n]`, in that order; a row may be repeated.
    pub(crate) fn select(&mut self, rows: &Tensor) {
        for (keys, values) in &mut self.layers {
            *keys = keys.index_select(0, rows);
            *values = values.index_select(0, rows);
        }
    }
}

/// Attention mask of `length` tokens after `before` cached ones, `[batch or 1, 1, length, before + length]`;
/// `None` if the built-in causal mask suffices. `valid` is as in [`LanguageModel::hidden`].
pub(crate) fn mask(valid: Option<&Tensor>, before: i64, length: i64, device: Device) -> Option<Tensor> {
    if valid.is_none() && (before == 0 || length == 1) {
        return None;
    }
    let causal = Tensor::ones([length, before + length], (Kind::Bool, device)).tril(before);
    let causal = causal.unsqueeze(0).unsqueeze(0);
    Some(match valid {
        None => causal,
        Some(valid) => {
            let texts = valid.to_kind(Kind::Int64);
            let own = texts.narrow(1, before, length).unsqueeze(1).unsqueeze(-1);
            let keys = texts.unsqueeze(1).unsqueeze(1);
            // Padding attends to padding, including itself: a fully masked row would give NaN.
            causal.logical_and(&keys.eq(SHARED).logical_or(&keys.eq_tensor(&own)))
        }
    })
}

/// Positions `[batch or 1, length]` of the tokens of a [`mask`]: the number of other tokens that each may
/// attend to.
pub(crate) fn positions(mask: Option<&Tensor>, before: i64, length: i64, device: Device) -> Tensor {
    match mask {
        None => crate::language::rope::consecutive(before, length, device),
        Some(mask) => mask.squeeze_dim(1).sum_dim_intlist([-1].as_slice(), false, Kind::Int64) - 1,
    }
}
