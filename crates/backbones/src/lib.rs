//! Backbones in terms of sites: one file or folder per model, with its published configurations and key names.
//!
//! A model describes itself as a [`san_core::ModelSpec`] and is built from a [`san_core::nn::builder::ModelBuilder`];
//! it does not depend on any method. [`vision`] has the image models, [`language`] the language models and text
//! generation, [`vlm`] the models that combine both. [`registry`] lists configurations by name, [`weights`]
//! reads checkpoints strictly, [`tokenizer`] and [`gguf`] read the files of language models.
//!
//! An image classifier with LoRA on random weights:
//!
//! ```
//! use backbones::{registry, vision::Classifier};
//! use san_core::{Weights, methods};
//! use tch::{Device, Kind, Tensor};
//!
//! let architecture = registry::find("vit_micro")?.architecture;
//! let model_spec = architecture.model_spec("vit_micro");
//! let weights = Weights::random(&model_spec, 0)?;
//!
//! let lora = methods::find("lora", serde_json::Map::new())?;
//! let (classes, seeds) = (10, [1]);
//! let (trainables, adapters) =
//!     methods::prepare(&*lora, &[], &model_spec, &weights, classes, &seeds, Device::Cpu)?;
//! let model = Classifier::new(&*architecture, &model_spec, &weights, &adapters, &trainables)?;
//! let images = Tensor::zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu));
//! assert_eq!(model.forward(&images).size(), [2, 10]);
//! # Ok::<(), backbones::Error>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod checkpointing;
// Shared as a file: data-loaders does without libtorch, so the two crates have no crate in common.
#[path = "../../data-loaders/src/io/contained.rs"]
mod contained;
mod error;
pub mod gguf;
pub mod language;
pub mod registry;
mod sizes;
pub mod step_memory;
pub mod tokenizer;
pub mod vision;
pub mod vlm;
pub mod weights;
pub mod workload;

use san_core::memory::layers::Layers;
use san_core::memory::tape::Value;
use san_core::nn::builder::ModelBuilder;
use san_core::{ModelSpec, Weights};
use tch::Tensor;

pub use error::Error;

use workload::Workload;

/// A configured architecture, before loading weights.
pub trait Architecture: std::fmt::Debug + Send + Sync {
    /// Tensors, sites and norms; `name` is used in messages.
    fn model_spec(&self, name: &str) -> ModelSpec;

    /// Height and width of its input images, pixels.
    fn image_size(&self) -> i64;

    /// Number of tokens that [`Backbone::tokens`] returns per image.
    fn token_count(&self) -> i64;

    /// The products of a forward pass over one image.
    fn workload(&self) -> Workload;

    /// The same model for another image size.
    ///
    /// # Errors
    /// If the model does not support that size.
    fn at_image_size(&self, size: i64) -> Result<Box<dyn Architecture>, Error>;

    /// Whether a published file may have this tensor although the model has not: buffers and unused layers in files
    /// for older versions of timm. It is not read.
    fn is_obsolete(&self, _: &str) -> bool {
        false
    }

    /// Adapts a published checkpoint to this configuration if the model supports it: names that older versions of timm
    /// gave its tensors (timm's `checkpoint_filter_fn`), and for example the position embedding of another image size.
    ///
    /// # Errors
    /// If the checkpoint cannot be adapted.
    fn fit(&self, weights: Weights) -> Result<Weights, Error>;

    /// The forward pass on a tape: the counterpart of [`Backbone::features`].
    fn trace_features(&self, layers: &Layers, images: &Value) -> Value;

    /// Builds the model.
    ///
    /// # Errors
    /// If a tensor is missing.
    fn build(&self, builder: &ModelBuilder<'_>) -> Result<Box<dyn Backbone>, Error>;

    /// The configuration in the publisher's format, for exported files.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    fn published_config(&self) -> Result<serde_json::Value, Error>;
}

/// A model that maps images to one feature vector each, or to one token per patch.
pub trait Backbone: std::fmt::Debug {
    /// Features `[K * batch, features]` of normalised images `[K * batch, 3, size, size]`.
    fn features(&self, images: &Tensor) -> Tensor;

    /// Tokens `[K * batch, tokens, features]` of normalised images `[K * batch, 3, size, size]`, in raster
    /// order, without class token: the input of a language model.
    fn tokens(&self, images: &Tensor) -> Tensor;
}
