//! Language models: what runs and scores them, whatever their architecture.
//!
//! One architecture a file, with its published configurations; `generate` decodes over any of them.

pub mod generate;
pub mod llama;
pub mod rope;

use san_core::nn::attachment::Scope;
use san_core::{Error, Layout};
use tch::{Device, Kind, Tensor};

/// A configured language model, before any weight is there.
pub trait LanguageArchitecture: std::fmt::Debug + Send + Sync {
    /// Tensors, sites and norms; `name` is for messages.
    fn layout(&self, name: &str) -> Layout;

    /// Number of tokens that it knows.
    fn vocabulary(&self) -> i64;

    /// Tokens that it can read at once.
    fn context(&self) -> i64;

    /// The model.
    ///
    /// # Errors
    /// If a tensor is missing.
    fn build(&self, scope: &Scope<'_>) -> Result<Box<dyn LanguageModel>, Error>;

    /// The configuration in the terms of its publisher, for files that others read.
    fn published_config(&self) -> serde_json::Value;
}

/// In `valid` of [`LanguageModel::hidden`]: a token that all behind it may look at.
pub const SHARED: i64 = 1;

/// A part of a forward pass, from activations to activations of the same shape.
pub type Stage<'a> = Box<dyn Fn(&Tensor) -> Tensor + 'a>;

/// A model that predicts the next token.
pub trait LanguageModel: std::fmt::Debug {
    /// What tokens `[K * batch, length]` enter the first block as: `[K * batch, length, channels]`.
    fn embed(&self, tokens: &Tensor) -> Tensor;

    /// What the last block makes of them, normalised, `[K * batch, length, channels]`.
    ///
    /// `valid` `[K * batch, tokens before + length]` is false at padding, which may stand on either
    /// side; none where there is none. As numbers it also tells apart texts that go on behind a shared
    /// beginning: 0 at padding, [`SHARED`] at what all see, and from 2 the number of the text that a
    /// token belongs to; texts do not see each other, and each is counted on from the beginning. With a
    /// cache the sequence goes on behind the tokens that it holds, and is held too.
    fn hidden(&self, embedded: &Tensor, valid: Option<&Tensor>, cache: Option<&mut Cache>) -> Tensor;

    /// The same as stages to be run one behind the other, from what enters the first block to what
    /// [`LanguageModel::hidden`] gives; `embedded` is read for its shape, type and device alone.
    fn stages(&self, embedded: &Tensor, valid: Option<&Tensor>) -> Vec<Stage<'_>>;

    /// Scores `[..., vocabulary]` of the next token.
    fn scores(&self, hidden: &Tensor) -> Tensor;

    /// Scores `[K * batch, length, vocabulary]` of the token behind each of `tokens`.
    fn forward(&self, tokens: &Tensor, valid: Option<&Tensor>) -> Tensor {
        self.scores(&self.hidden(&self.embed(tokens), valid, None))
    }
}

/// Keys and values of the tokens that a model has read, so that they are not computed again.
#[derive(Debug, Default)]
pub struct Cache {
    layers: Vec<(Tensor, Tensor)>,
    /// Tokens held.
    length: i64,
    /// Tokens that there is room for.
    room: i64,
}

impl Cache {
    /// Room for so many tokens.
    pub fn new(room: i64) -> Self {
        Self { layers: Vec::new(), length: 0, room }
    }

    /// Tokens held.
    pub fn length(&self) -> i64 {
        self.length
    }

    /// Adds keys and values `[batch, heads, tokens, width]` of a layer; all that are held are returned.
    pub fn extend(&mut self, layer: usize, keys: &Tensor, values: &Tensor) -> (Tensor, Tensor) {
        let [batch, heads, tokens, width] = keys.size()[..] else {
            unreachable!("keys have four dimensions")
        };
        if layer == self.layers.len() {
            let empty = || Tensor::empty([batch, heads, self.room, width], (keys.kind(), keys.device()));
            self.layers.push((empty(), empty()));
        }
        let (held_keys, held_values) = &self.layers[layer];
        let held = |all: &Tensor, new: &Tensor| {
            all.narrow(2, self.length, tokens).copy_(new);
            all.narrow(2, 0, self.length + tokens)
        };
        (held(held_keys, keys), held(held_values, values))
    }

    /// Says that every layer has got `tokens` more.
    pub fn advance(&mut self, tokens: i64) {
        self.length += tokens;
    }

    /// Keeps the rows `rows` `[n]` of the batch, in that order; a row may be named more than once.
    pub fn select(&mut self, rows: &Tensor) {
        for (keys, values) in &mut self.layers {
            *keys = keys.index_select(0, rows);
            *values = values.index_select(0, rows);
        }
    }
}

/// What each of `length` tokens behind `before` others may look at, `[batch or 1, 1, length, before + length]`;
/// none where the plain causal rule of the attention itself says it. `valid` is that of [`LanguageModel::hidden`].
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
            let seen = texts.unsqueeze(1).unsqueeze(1);
            // Padding sees padding, itself too: a row that may look at nothing would be not a number.
            causal.logical_and(&seen.eq(SHARED).logical_or(&seen.eq_tensor(&own)))
        }
    })
}

/// Positions `[batch or 1, length]` of the tokens that a [`mask`] was made for: how many others each may look at.
pub(crate) fn positions(mask: Option<&Tensor>, before: i64, length: i64, device: Device) -> Tensor {
    match mask {
        None => crate::language::rope::consecutive(before, length, device),
        Some(mask) => mask.squeeze_dim(1).sum_dim_intlist([-1].as_slice(), false, Kind::Int64) - 1,
    }
}
