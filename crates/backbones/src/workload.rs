//! What a forward pass multiplies, from an architecture's sizes alone, so that a plan can estimate the time of a training
//! without weights.
//!
//! Counts are in multiply-accumulates (MACs), as timm and torchvision print them: half of the floating-point operations.
//! Passes over activations (norms, activation functions, scales) are not counted. The last block of a ViT that is pooled by
//! its class token counts for all tokens, as it does there, although it is computed for that token alone.

use std::collections::BTreeMap;

use san_core::ModelSpec;
use san_core::spec::model::SiteSpec;

/// The products of a forward pass over one example: an image, or some tokens of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workload {
    /// Number of positions (tokens or pixels) that each site is applied to, by its name.
    pub positions: BTreeMap<String, f64>,
    /// MACs of products of activations: those of attention.
    pub attention: f64,
    /// MACs of a language model's output embedding.
    pub output: f64,
}

impl Workload {
    /// Adds sites that are applied to this many positions.
    pub(crate) fn apply<'a>(&mut self, sites: impl IntoIterator<Item = &'a str>, positions: f64) {
        self.positions.extend(sites.into_iter().map(|name| (name.to_owned(), positions)));
    }

    /// MACs of the whole pass, with the sites of `model_spec`.
    pub fn macs(&self, model_spec: &ModelSpec) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let of_site = |site: &SiteSpec| {
            let positions = self.positions.get(&site.name).copied().unwrap_or(0.0);
            positions * (site.inputs * site.outputs) as f64
        };
        model_spec.sites.iter().map(of_site).sum::<f64>() + self.attention + self.output
    }

    /// The workload of this number of examples.
    #[must_use]
    pub fn times(mut self, examples: f64) -> Self {
        self.positions.values_mut().for_each(|positions| *positions *= examples);
        Self { attention: self.attention * examples, output: self.output * examples, ..self }
    }
}

/// Tokens that a language model processes in one pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tokens {
    /// Number of tokens.
    pub tokens: f64,
    /// Number of pairs of a token and one that it attends to.
    pub pairs: f64,
    /// Number of tokens whose successor is predicted.
    pub predicted: f64,
}

impl Tokens {
    /// A whole text of this length.
    pub fn text(length: f64, predicted: f64) -> Self {
        Self { tokens: length, pairs: length * (length + 1.0) / 2.0, predicted }
    }

    /// `new` tokens that are generated one by one after `before` tokens, which are in a cache.
    pub fn generated(before: f64, new: f64) -> Self {
        Self { tokens: new, pairs: new * before + new * (new + 1.0) / 2.0, predicted: new }
    }
}
