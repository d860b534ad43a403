//! What reads a text: a language model, or one that sees pictures among its tokens. The two differ in what enters the
//! first block and in nothing behind it.

use std::collections::BTreeMap;

use backbones::language::generate::Prompts;
use backbones::language::llama;
use backbones::language::{LanguageArchitecture as _, LanguageModel};
use backbones::vlm::llava::{self, Llava, Parts};
use san_core::nn::attachment::{Attachment, Scope};
use san_core::{Error, Layout, Weights};
use tch::{Device, Tensor};

/// A configured reader, before any weight that a method sees is there.
#[derive(Debug)]
pub enum ReaderArchitecture {
    /// Of text alone.
    Language(llama::Config),
    /// Of text and pictures, with the frozen weights of its tower.
    Llava(llava::Architecture, Weights),
}

impl ReaderArchitecture {
    /// Tensors, sites and norms that a method sees; `name` is for messages.
    pub fn layout(&self, name: &str) -> Layout {
        match self {
            Self::Language(language) => language.layout(name),
            Self::Llava(architecture, _) => architecture.layout(name),
        }
    }

    /// Tokens that it reads at once.
    pub fn context(&self) -> i64 {
        match self {
            Self::Language(language) => language.context(),
            Self::Llava(llava, _) => llava.language.context(),
        }
    }

    /// The model with what a method put there.
    ///
    /// # Errors
    /// When a tensor is missing.
    pub fn build(&self, weights: &Weights, attachment: &Attachment) -> Result<Reader, Error> {
        let scope = Scope::new(weights, attachment);
        Ok(match self {
            Self::Language(language) => Reader::Language(language.build(&scope)?),
            Self::Llava(architecture, tower) => Reader::Llava(architecture.build(tower, &scope)?),
        })
    }

    /// The configuration in the terms of the parts' publishers, for files that others read.
    pub fn published_config(&self) -> serde_json::Value {
        match self {
            Self::Language(language) => language.published_config(),
            Self::Llava(llava::Architecture { tower, language, image_token }, _) => {
                serde_json::json!({
                    "model_type": "llava",
                    "image_token_index": image_token,
                    "projector_hidden_act": "gelu",
                    "vision_config": tower.published_config(),
                    "text_config": language.published_config(),
                })
            }
        }
    }
}

/// A model as Hugging Face's library loads it: configuration, and tensors by name.
pub type Published = (serde_json::Value, BTreeMap<String, Tensor>);

impl ReaderArchitecture {
    /// The model with `weights` in the place of its own, tower included, for a folder that transformers loads.
    ///
    /// # Errors
    /// When its tower is none that transformers' LLaVA has.
    pub fn published(&self, weights: Weights) -> Result<Published, Error> {
        match self {
            Self::Language(language) => {
                let tensors = weights.iter().map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()));
                Ok((language.published_config(), tensors.collect()))
            }
            Self::Llava(architecture, _) if !architecture.has_clip() => Err(Error::Unexportable {
                method: "a model of vision and language".into(),
                reason: "transformers' LLaVA has towers of CLIP alone; name a file *.safetensors for \
                         projector and language model"
                    .into(),
            }),
            Self::Llava(architecture, tower) => {
                let parts = Parts { tower: tower.shallow_clone(), rest: weights };
                Ok((architecture.published_config(), llava::Architecture::published(&parts)))
            }
        }
    }
}

/// A reader with its weights.
#[derive(Debug)]
pub enum Reader {
    /// Of text alone.
    Language(Box<dyn LanguageModel>),
    /// Of text and pictures.
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

    /// What enters the first block, of tokens `[batch, length]` and what the tower saw of their pictures.
    ///
    /// # Errors
    /// When places of pictures and pictures do not match.
    pub fn embed(&self, tokens: &Tensor, seen: Option<&Tensor>) -> Result<Tensor, Error> {
        match self {
            Self::Language(language) => Ok(language.embed(tokens)),
            Self::Llava(llava) => llava.embed(tokens, seen),
        }
    }

    /// Prompts to go on with.
    ///
    /// # Errors
    /// As [`Reader::embed`].
    pub fn prompts(
        &self,
        prompts: &[Vec<i64>],
        seen: Option<&Tensor>,
        device: Device,
    ) -> Result<Prompts, Error> {
        match self {
            Self::Language(language) => Prompts::of_tokens(&**language, prompts, device),
            Self::Llava(llava) => llava.prompts(prompts, seen, device),
        }
    }
}
