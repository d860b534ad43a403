//! Backbones over sites: one model, one file, each with its published configuration and key names.
//!
//! A model describes itself as a [`san_core::Layout`] and is built from a
//! [`san_core::nn::attachment::Scope`]; it knows no method. [`vision`] has the image models, [`language`] the language
//! models and how they generate, [`vlm`] what joins the two. [`registry`] has the configurations by name, [`weights`] reads
//! checkpoints strictly, [`tokenizer`] and [`gguf`] read the files of language models.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod checkpointing;
pub mod gguf;
pub mod language;
pub mod registry;
pub mod tokenizer;
pub mod vision;
pub mod vlm;
pub mod weights;

use san_core::nn::attachment::Scope;
use san_core::{Error, Layout, Weights};
use tch::Tensor;

/// A configured architecture, before any weight is there.
pub trait Architecture: std::fmt::Debug + Send + Sync {
    /// Tensors, sites and norms; `name` is for messages.
    fn layout(&self, name: &str) -> Layout;

    /// Height and width in pixels of the images it reads.
    fn image_size(&self) -> i64;

    /// Tokens that [`Backbone::tokens`] makes of one image.
    fn token_count(&self) -> i64;

    /// The same model for images of another size.
    ///
    /// # Errors
    /// If the model cannot read images of that size.
    fn at_image_size(&self, size: i64) -> Result<Box<dyn Architecture>, Error>;

    /// A published checkpoint made to fit this configuration, where the model allows it (a position
    /// embedding resampled to another image size).
    ///
    /// # Errors
    /// If it cannot be made to fit.
    fn fit(&self, weights: Weights) -> Result<Weights, Error>;

    /// The model.
    ///
    /// # Errors
    /// If a tensor is missing.
    fn build(&self, scope: &Scope<'_>) -> Result<Box<dyn Backbone>, Error>;

    /// The configuration in the terms of its publisher, for files that others read.
    fn published_config(&self) -> serde_json::Value;
}

/// A model from images to one feature vector each, or to a token for each patch.
pub trait Backbone: std::fmt::Debug {
    /// Features `[K * batch, features]` of normalised images `[K * batch, 3, size, size]`.
    fn features(&self, images: &Tensor) -> Tensor;

    /// Tokens `[K * batch, tokens, features]` of normalised images `[K * batch, 3, size, size]`, row by row over the
    /// image, without class token: what a language model may read.
    fn tokens(&self, images: &Tensor) -> Tensor;
}
