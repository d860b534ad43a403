//! LLaVA-1.5 (arXiv 2310.03744): the tokens of any vision backbone, a projector of two linears with GELU, and
//! any language model.
//!
//! The tower is frozen and kept separate: its features of an image never change, so they are computed once
//! ([`Llava::encode_images`]) and may be cached. Methods get one model spec of projector and language model; in
//! SAN's wiring the projector's two linears form a chain (docs/method.md, section 2). In a text, each image feature
//! is represented by one image token. Names: `multi_modal_projector.linear_1`, `linear_2` and those of the parts;
//! [`Architecture::split`] and [`Architecture::published`] translate the files of Hugging Face's
//! `llava-1.5-7b-hf`, and `split` also those of the original release.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use san_core::Weights;
use san_core::io::safetensors::TensorFile;
use san_core::nn::builder::{AdapterSet, ModelBuilder};
use san_core::nn::site::Site;
use san_core::spec::model::{ModelSpec, Role, SiteSpec};
use san_core::spec::wiring::Anteriors;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::language::generate::Prompts;
use crate::language::{LanguageArchitecture, LanguageModel, drop_tied_output};
use crate::workload::{Tokens, Workload};
use crate::{Architecture as Vision, Backbone, Error};

const FIRST: &str = "multi_modal_projector.linear_1";
const SECOND: &str = "multi_modal_projector.linear_2";
const TOWER: &str = "vision_tower.";
const LANGUAGE: &str = "language_model.";

/// The parts of a LLaVA.
#[derive(Debug)]
pub struct Architecture {
    /// The vision tower, which computes image tokens.
    pub tower: Box<dyn Vision>,
    /// The language model, which takes image and text tokens.
    pub language: Arc<dyn LanguageArchitecture>,
    /// Id of the image token: `image_token_index` of a published model, or any id that the vocabulary does not
    /// use.
    pub image_token: i64,
}

impl Architecture {
    /// The model spec of projector and language model: everything that a method may change.
    pub fn model_spec(&self, name: &str) -> ModelSpec {
        let mut model_spec = ModelSpec::headless(name);
        self.projector().into_iter().for_each(|site| model_spec.site(site));
        let mut language = self.language.model_spec(name);
        model_spec.tensors.append(&mut language.tensors);
        model_spec.sites.append(&mut language.sites);
        model_spec.norms.append(&mut language.norms);
        model_spec.branches.append(&mut language.branches);
        model_spec.sequences.append(&mut language.sequences);
        model_spec
    }

    /// The products of a pass over some tokens, of which `image_tokens` come from the projector; the tower is not part of
    /// it.
    pub fn workload(&self, tokens: Tokens, image_tokens: f64) -> Workload {
        let mut work = self.language.workload(tokens);
        work.apply([FIRST, SECOND], image_tokens);
        work
    }

    /// The projector's tensors, which recipes train at a separate learning rate.
    pub fn projector_tensors() -> [String; 4] {
        [(FIRST, "weight"), (FIRST, "bias"), (SECOND, "weight"), (SECOND, "bias")]
            .map(|(site, part)| format!("{site}.{part}"))
    }

    fn projector(&self) -> [SiteSpec; 2] {
        let inputs = self.tower.model_spec("tower").head.map_or(0, |head| head.features);
        let width = self.language.channels();
        [
            SiteSpec::linear(FIRST, Role::Projector, inputs, width),
            SiteSpec::linear(SECOND, Role::Projector, width, width).with_anteriors(Anteriors::always(FIRST)),
        ]
    }

    /// Builds the model: `tower` holds the tower's frozen weights, `builder` those of [`Architecture::model_spec`]
    /// with a method.
    ///
    /// # Errors
    /// If a tensor is missing.
    pub fn build(&self, tower: &Weights, builder: &ModelBuilder<'_>) -> Result<Llava, Error> {
        let [first, second] = self.projector();
        Ok(Llava {
            tower: self.tower.build(&ModelBuilder::new(tower, &AdapterSet::default()))?,
            projector: [builder.site(&first)?, builder.site(&second)?],
            language: self.language.build(builder)?,
            image_token: self.image_token,
        })
    }

    /// Splits a published model's tensors into the tower and the rest (projector and language model); both are
    /// checked strictly. Files of Hugging Face and of the original release (`model.mm_projector.0`,
    /// `model.vision_tower.vision_tower`) are supported; for sharded models, pass all tensors together.
    ///
    /// # Errors
    /// If a tensor is missing, unknown or of the wrong shape; `place` is used in messages.
    pub fn split(
        &self,
        tensors: impl IntoIterator<Item = (String, Tensor)>,
        place: &str,
    ) -> Result<Parts, Error> {
        let tower_layout = self.tower.model_spec("the vision tower");
        let tower_names: BTreeSet<&str> =
            tower_layout.tensors.iter().map(|spec| spec.name.as_str()).collect();
        let (mut tower, mut rest) = (BTreeMap::new(), BTreeMap::new());
        for (name, tensor) in tensors {
            match tower_name(&name) {
                // Some writers omit the prefix used in CLIP's own files.
                Some(bare) => {
                    let long = format!("vision_model.{bare}");
                    let known = tower_names.contains(long.as_str());
                    tower.insert(if known { long } else { bare.to_owned() }, tensor);
                }
                None => {
                    rest.insert(own_name(&name), tensor);
                }
            }
        }
        let model_spec = self.model_spec("LLaVA");
        drop_tied_output(&model_spec, &mut rest);
        let tower = self.tower.fit(Weights::new(tower))?;
        tower.check(&tower_layout, place)?;
        let rest = Weights::new(rest);
        rest.check(&model_spec, place)?;
        Ok(Parts { tower, rest })
    }

    /// The tensors under Hugging Face's names, the inverse of [`Architecture::split`].
    pub fn published(parts: &Parts) -> BTreeMap<String, Tensor> {
        let tower = parts.tower.iter().map(|(name, tensor)| (format!("{TOWER}{name}"), tensor));
        let rest = parts.rest.iter().map(|(name, tensor)| {
            let prefix = if name.starts_with("multi_modal_projector.") { "" } else { LANGUAGE };
            (format!("{prefix}{name}"), tensor)
        });
        tower.chain(rest).map(|(name, tensor)| (name, tensor.shallow_clone())).collect()
    }

    /// The configurations of its parts, for a tower of any kind.
    ///
    /// # Errors
    /// If they cannot be written as JSON.
    pub fn described_config(&self) -> Result<Value, Error> {
        Ok(json!({
            "model_type": "llava",
            "image_token_index": self.image_token,
            "projector_hidden_act": "gelu",
            "vision_config": self.tower.published_config()?,
            "text_config": self.language.published_config()?,
        }))
    }

    /// The configuration of Hugging Face's `LlavaForConditionalGeneration`.
    ///
    /// # Errors
    /// [`Error::Unexportable`] if the tower is not a CLIP tower, the only kind that it supports.
    pub fn published_config(&self) -> Result<Value, Error> {
        let mut vision = self.tower.published_config()?;
        let Some(layer) = vision.get_mut("vision_feature_layer").map(Value::take) else {
            let reason = "transformers' LLaVA supports CLIP towers only; name a file *.safetensors for projector \
                          and language model";
            return Err(Error::Unexportable { reason: reason.into() });
        };
        vision["model_type"] = "clip_vision_model".into();
        let mut config = self.described_config()?;
        config["architectures"] = json!(["LlavaForConditionalGeneration"]);
        config["image_seq_length"] = self.tower.token_count().into();
        config["vision_feature_layer"] = layer;
        config["vision_feature_select_strategy"] = "default".into();
        config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"].clone();
        config["vision_config"] = vision;
        Ok(config)
    }
}

/// The weights of a model.
#[derive(Debug)]
pub struct Parts {
    /// Weights of the tower, under its own names.
    pub tower: Weights,
    /// Weights of projector and language model, under the names of [`Architecture::model_spec`].
    pub rest: Weights,
}

/// The tower's own name of a stored tensor, if it belongs to the tower.
fn tower_name(name: &str) -> Option<&str> {
    name.strip_prefix("model.vision_tower.vision_tower.").or_else(|| name.strip_prefix(TOWER))
}

/// This project's name of any other stored tensor.
fn own_name(name: &str) -> String {
    let projector = [("model.mm_projector.0.", FIRST), ("model.mm_projector.2.", SECOND)];
    for (original, ours) in projector {
        if let Some(part) = name.strip_prefix(original) {
            return format!("{ours}.{part}");
        }
    }
    name.strip_prefix(LANGUAGE).unwrap_or(name).to_owned()
}

/// A projector tensor in a file, under this project's name or the original's.
pub fn projector_tensor<'a>(file: &'a TensorFile, name: &str) -> Option<&'a Tensor> {
    file.tensors.iter().find_map(|(stored, tensor)| (own_name(stored) == name).then_some(tensor))
}

/// The model.
#[derive(Debug)]
pub struct Llava {
    tower: Box<dyn Backbone>,
    projector: [Site; 2],
    language: Box<dyn LanguageModel>,
    image_token: i64,
}

impl Llava {
    /// The image features `[images, tokens, width]` that the tower computes for images `[images, 3, size, size]`,
    /// without gradient.
    pub fn encode_images(&self, images: &Tensor) -> Tensor {
        tch::no_grad(|| self.tower.tokens(images))
    }

    /// The language model, which continues after [`Llava::prompts`].
    pub fn language(&self) -> &dyn LanguageModel {
        &*self.language
    }

    /// Input of the first block, `[K * batch, length, channels]`, from tokens `[K * batch, length]`; each image
    /// token is replaced, in order, by one of the projected `image_features` `[K * images, tokens, width]`.
    ///
    /// # Errors
    /// If the numbers of image tokens and features differ.
    pub fn embed(&self, tokens: &Tensor, image_features: Option<&Tensor>) -> Result<Tensor, Error> {
        let is_image = tokens.f_eq(self.image_token)?;
        let count = i64::try_from(is_image.f_sum(Kind::Int64)?)?;
        let features =
            image_features.map_or(0, |image_features| image_features.size()[0] * image_features.size()[1]);
        if count != features {
            return Err(Error::ImageTokenCount { image_tokens: count, features });
        }
        // The image token may be outside the vocabulary.
        let embedded = self.language.embed(&tokens.f_masked_fill(&is_image, 0)?);
        let Some(image_features) = image_features else { return Ok(embedded) };
        let projected = self.project(image_features).f_to_kind(embedded.kind())?;
        Ok(embedded.f_masked_scatter(&is_image.f_unsqueeze(-1)?, &projected)?)
    }

    fn project(&self, image_features: &Tensor) -> Tensor {
        let [first, second] = &self.projector;
        second.forward(&first.forward(image_features).gelu("none"))
    }

    /// Logits `[K * batch, length, vocabulary]` of the next token; `valid` is as in [`LanguageModel::hidden`].
    ///
    /// # Errors
    /// Same as [`Llava::embed`].
    pub fn forward(
        &self,
        tokens: &Tensor,
        image_features: Option<&Tensor>,
        valid: Option<&Tensor>,
    ) -> Result<Tensor, Error> {
        let embedded = self.embed(tokens, image_features)?;
        Ok(self.language.logits(&self.language.hidden(&embedded, valid, None)))
    }

    /// Left-padded prompts for generation, with their `image_features` in the order of the prompts.
    ///
    /// # Errors
    /// Same as [`Llava::embed`].
    pub fn prompts(
        &self,
        prompts: &[Vec<i64>],
        image_features: Option<&Tensor>,
        device: Device,
    ) -> Result<Prompts, Error> {
        let length = prompts.iter().map(Vec::len).max().unwrap_or(0);
        // Any token other than the image token can serve as padding.
        let padding = i64::from(self.image_token == 0);
        let (mut tokens, mut valid) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let missing = length - prompt.len();
            tokens.extend(std::iter::repeat_n(padding, missing).chain(prompt.iter().copied()));
            valid.extend((0..length).map(|column| column >= missing));
        }
        let shape = [prompts.len() as i64, length as i64];
        let tensor = |values: Tensor| values.f_view(shape)?.f_to_device(device);
        let tokens = tensor(Tensor::f_from_slice(&tokens)?)?;
        let valid = tensor(Tensor::f_from_slice(&valid)?)?;
        Ok(Prompts { embedded: tch::no_grad(|| self.embed(&tokens, image_features))?, valid })
    }
}
