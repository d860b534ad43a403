//! A language model, with or without image input. The two differ in what enters the first block, and in nothing after
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;

use backbones::Error;
use backbones::language::generate::Prompts;
use backbones::language::{LanguageArchitecture, LanguageModel};
use backbones::vlm::llava::{self, Llava, Parts};
use san_core::nn::builder::{AdapterSet, ModelBuilder};
use san_core::{ModelSpec, Weights};
use tch::{Device, Tensor};

/// The configuration of a reader, before it has the weights that a method sees.
#[derive(Debug)]
pub enum ReaderArchitecture {
    /// Text only.
    Language(Arc<dyn LanguageArchitecture>),
    /// Text and images, with the frozen weights of the tower.
    Llava(llava::Architecture, Weights),
}

impl ReaderArchitecture {
    /// Tensors, sites and norms that a method sees; `name` is for messages.
    pub fn model_spec(&self, name: &str) -> ModelSpec {
        match self {
            Self::Language(language) => language.model_spec(name),
            Self::Llava(architecture, _) => architecture.model_spec(name),
        }
    }

    /// The context length, in tokens.
    pub fn context(&self) -> i64 {
        match self {
            Self::Language(language) => language.context(),
            Self::Llava(llava, _) => llava.language.context(),
        }
    }

    /// Builds the model with a method's adapters attached.
    ///
    /// # Errors
    /// When a tensor is missing.
    pub fn build(&self, weights: &Weights, adapters: &AdapterSet) -> Result<Reader, Error> {
        let builder = ModelBuilder::new(weights, adapters);
        Ok(match self {
            Self::Language(language) => Reader::Language(language.build(&builder)?),
            Self::Llava(architecture, tower) => Reader::Llava(architecture.build(tower, &builder)?),
        })
    }

    /// The configuration in the publishers' format, for exported files. A tower that no publisher combines with a
    /// language model is described in its own publisher's format.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn published_config(&self) -> Result<serde_json::Value, Error> {
        match self {
            Self::Language(language) => language.published_config(),
            Self::Llava(architecture, _) => architecture.described_config(),
        }
    }
}

/// A model in the form that Hugging Face's transformers loads: configuration, and tensors by name.
pub type Published = (serde_json::Value, BTreeMap<String, Tensor>);

impl ReaderArchitecture {
    /// The model with `weights` in place of its own, tower included, for a folder that transformers loads.
    ///
    /// # Errors
    /// When transformers' LLaVA has no such tower.
    pub fn published(&self, weights: Weights) -> Result<Published, Error> {
        match self {
            Self::Language(language) => {
                let tensors = weights.iter().map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()));
                Ok((language.published_config()?, tensors.collect()))
            }
            Self::Llava(architecture, tower) => {
                let config = architecture.published_config()?;
                let parts = Parts { tower: tower.shallow_clone(), rest: weights };
                Ok((config, llava::Architecture::published(&parts)))
            }
        }
    }
}

/// A reader with its weights.
#[derive(Debug)]
pub enum Reader {
    /// Text only.
    Language(Box<dyn LanguageModel>),
    /// Text and images.
    Llava(Llava),
}

impl Reader {
    /// The language model.
    pub fn language(&self) -> &dyn LanguageModel {
        match self {
            Self::Language(language) => &**language,
            Self::Llava(llava) => llava.language(),
        }
    }

    /// The input of the first block, from tokens `[batch, length]` and the tower's features of their images.
    ///
    /// # Errors
    /// When the numbers of image placeholders and of image features differ.
    pub fn embed(&self, tokens: &Tensor, seen: Option<&Tensor>) -> Result<Tensor, Error> {
        match self {
            Self::Language(language) => Ok(language.embed(tokens)),
            Self::Llava(llava) => llava.embed(tokens, seen),
        }
    }

    /// The embedded prompts, for generation.
    ///
    /// # Errors
    /// As for [`Reader::embed`].
    pub fn prompts(
        &self,
        prompts: &[Vec<i64>],
        seen: Option<&Tensor>,
        device: Device,
    ) -> Result<Prompts, Error> {
        match self {
            Self::Language(language) => Prompts::from_tokens(&**language, prompts, device),
            Self::Llava(llava) => llava.prompts(prompts, seen, device),
        }
    }
}
