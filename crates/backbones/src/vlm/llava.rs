//! LLaVA-1.5 (arXiv 2310.03744): the tokens of any vision backbone, a projector of two linears with GELU, and any LLaMA.
//!
//! The tower is frozen and stays apart: its tokens of an image never change, so they are made once ([`Llava::see`]) and
//! may be kept. What methods see is one layout of projector and language model; in SAN's wiring the projector's two
//! linears are a chain (docs/method.md, section 2). A text has a token of its own number in the place of each image
//! feature. Names: `multi_modal_projector.linear_1`, `linear_2` and the parts' own; [`Architecture::split`] and
//! [`Architecture::published`] translate the files of Hugging Face's `llava-1.5-7b-hf`, and `split` also the original's.

use std::collections::{BTreeMap, BTreeSet};

use san_core::io::safetensors::TensorFile;
use san_core::nn::attachment::{Attachment, Scope};
use san_core::nn::site::Site;
use san_core::spec::model::{Layout, Role, SiteSpec};
use san_core::spec::wiring::Anteriors;
use san_core::{Error, Weights};
use tch::{Device, Kind, Tensor};

use crate::Architecture as Vision;
use crate::Backbone;
use crate::language::generate::Prompts;
use crate::language::llama;
use crate::language::{LanguageArchitecture, LanguageModel};

const FIRST: &str = "multi_modal_projector.linear_1";
const SECOND: &str = "multi_modal_projector.linear_2";
const TOWER: &str = "vision_tower.";
const LANGUAGE: &str = "language_model.";

/// Parts that are put together.
#[derive(Debug)]
pub struct Architecture {
    /// Makes tokens of images.
    pub tower: Box<dyn Vision>,
    /// Reads them among the tokens of a text.
    pub language: llama::Config,
    /// The number that stands in a text for an image feature: `image_token_index` of a published model, or any that the
    /// vocabulary leaves free.
    pub image_token: i64,
}

impl Architecture {
    /// The projector and the language model: everything that a method may change.
    pub fn layout(&self, name: &str) -> Layout {
        let mut layout = Layout::headless(name);
        self.projector().into_iter().for_each(|site| layout.site(site));
        let mut language = self.language.layout(name);
        layout.tensors.append(&mut language.tensors);
        layout.sites.append(&mut language.sites);
        layout.norms.append(&mut language.norms);
        layout.branches.append(&mut language.branches);
        layout.sequences.append(&mut language.sequences);
        layout
    }

    /// The names of the projector's tensors, which a recipe trains at a rate of their own.
    pub fn projector_tensors() -> [String; 4] {
        [(FIRST, "weight"), (FIRST, "bias"), (SECOND, "weight"), (SECOND, "bias")]
            .map(|(site, part)| format!("{site}.{part}"))
    }

    fn projector(&self) -> [SiteSpec; 2] {
        let inputs = self.tower.layout("tower").head.map_or(0, |head| head.features);
        let width = self.language.hidden_size;
        [
            SiteSpec::linear(FIRST, Role::Projector, inputs, width),
            SiteSpec::linear(SECOND, Role::Projector, width, width).reading(Anteriors::always(FIRST)),
        ]
    }

    /// The model: `tower` are the frozen weights of the tower, `scope` those of [`Architecture::layout`] with a method.
    ///
    /// # Errors
    /// If a tensor is missing.
    pub fn build(&self, tower: &Weights, scope: &Scope<'_>) -> Result<Llava, Error> {
        let [first, second] = self.projector();
        Ok(Llava {
            tower: self.tower.build(&Scope::new(tower, &Attachment::default()))?,
            projector: [scope.site(&first)?, scope.site(&second)?],
            language: self.language.build(scope)?,
            image_token: self.image_token,
        })
    }

    /// A published model's tensors as tower, and projector with language model; both are checked strictly. The files of
    /// Hugging Face and those of the original (`model.mm_projector.0`, `model.vision_tower.vision_tower`) are known; of
    /// parts in several files, put all tensors together.
    ///
    /// # Errors
    /// If a tensor is missing, unknown or of another shape; `place` is for messages.
    pub fn split(
        &self,
        tensors: impl IntoIterator<Item = (String, Tensor)>,
        place: &str,
    ) -> Result<Parts, Error> {
        let tower_layout = self.tower.layout("the vision tower");
        let of_tower: BTreeSet<&str> = tower_layout.tensors.iter().map(|spec| spec.name.as_str()).collect();
        let (mut tower, mut rest) = (BTreeMap::new(), BTreeMap::new());
        for (name, tensor) in tensors {
            match tower_name(&name) {
                // Some writers leave out the folder that CLIP's own files have.
                Some(bare) => {
                    let long = format!("vision_model.{bare}");
                    let known = of_tower.contains(long.as_str());
                    tower.insert(if known { long } else { bare.to_owned() }, tensor);
                }
                None => {
                    rest.insert(own_name(&name), tensor);
                }
            }
        }
        if self.language.tie_word_embeddings {
            rest.remove("lm_head.weight");
        }
        let tower = self.tower.fit(Weights::new(tower))?;
        tower.check(&tower_layout, place)?;
        let rest = Weights::new(rest);
        rest.check(&self.layout("LLaVA"), place)?;
        Ok(Parts { tower, rest })
    }

    /// The tensors under Hugging Face's names, as [`Architecture::split`] reads them.
    pub fn published(parts: &Parts) -> BTreeMap<String, Tensor> {
        let tower = parts.tower.iter().map(|(name, tensor)| (format!("{TOWER}{name}"), tensor));
        let rest = parts.rest.iter().map(|(name, tensor)| {
            let prefix = if name.starts_with("multi_modal_projector.") { "" } else { LANGUAGE };
            (format!("{prefix}{name}"), tensor)
        });
        tower.chain(rest).map(|(name, tensor)| (name, tensor.shallow_clone())).collect()
    }

    /// Whether the tower is one of CLIP, the only ones that [`Architecture::published_config`] can tell of.
    pub fn has_clip(&self) -> bool {
        self.tower.published_config().get("vision_feature_layer").is_some()
    }

    /// The configuration as Hugging Face's `LlavaForConditionalGeneration` reads it, for a tower of CLIP.
    pub fn published_config(&self) -> serde_json::Value {
        let mut vision = self.tower.published_config();
        vision["model_type"] = "clip_vision_model".into();
        let layer = vision["vision_feature_layer"].take();
        serde_json::json!({
            "model_type": "llava",
            "architectures": ["LlavaForConditionalGeneration"],
            "image_token_index": self.image_token,
            "image_seq_length": self.tower.token_count(),
            "projector_hidden_act": "gelu",
            "vision_feature_layer": layer,
            "vision_feature_select_strategy": "default",
            "tie_word_embeddings": self.language.tie_word_embeddings,
            "vision_config": vision,
            "text_config": self.language.published_config(),
        })
    }
}

/// The weights of a model.
#[derive(Debug)]
pub struct Parts {
    /// Of the tower, by its own names.
    pub tower: Weights,
    /// Of projector and language model, by the names of [`Architecture::layout`].
    pub rest: Weights,
}

/// The tower's own name of a tensor of a file, if it is the tower's.
fn tower_name(name: &str) -> Option<&str> {
    name.strip_prefix("model.vision_tower.vision_tower.").or_else(|| name.strip_prefix(TOWER))
}

/// Our name of another tensor of a file.
fn own_name(name: &str) -> String {
    let projector = [("model.mm_projector.0.", FIRST), ("model.mm_projector.2.", SECOND)];
    for (original, ours) in projector {
        if let Some(part) = name.strip_prefix(original) {
            return format!("{ours}.{part}");
        }
    }
    name.strip_prefix(LANGUAGE).unwrap_or(name).to_owned()
}

/// A projector's tensor of a file, by our name or the original's.
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
    /// The tower's tokens `[images, tokens, width]` of images `[images, 3, size, size]`, without gradient.
    pub fn see(&self, images: &Tensor) -> Tensor {
        tch::no_grad(|| self.tower.tokens(images))
    }

    /// The language model, which goes on behind [`Llava::prompts`].
    pub fn language(&self) -> &dyn LanguageModel {
        &*self.language
    }

    /// What enters the first block `[K * batch, length, channels]`: of tokens `[K * batch, length]`, the tower's tokens
    /// `seen` `[K * images, tokens, width]` standing in the places of the image token, in order.
    ///
    /// # Errors
    /// If there are more places than features, or fewer.
    pub fn embed(&self, tokens: &Tensor, seen: Option<&Tensor>) -> Result<Tensor, Error> {
        let places = tokens.f_eq(self.image_token)?;
        let count = i64::try_from(places.f_sum(Kind::Int64)?)?;
        let features = seen.map_or(0, |seen| seen.size()[0] * seen.size()[1]);
        if count != features {
            return Err(Error::ImagePlaces { places: count, features });
        }
        // The image token need not be in the vocabulary.
        let embedded = self.language.embed(&tokens.f_masked_fill(&places, 0)?);
        let Some(seen) = seen else { return Ok(embedded) };
        let projected = self.project(seen).f_to_kind(embedded.kind())?;
        Ok(embedded.f_masked_scatter(&places.f_unsqueeze(-1)?, &projected)?)
    }

    fn project(&self, seen: &Tensor) -> Tensor {
        let [first, second] = &self.projector;
        second.forward(&first.forward(seen).gelu("none"))
    }

    /// Scores `[K * batch, length, vocabulary]` of the token behind each; `valid` as for [`LanguageModel::hidden`].
    ///
    /// # Errors
    /// As [`Llava::embed`].
    pub fn forward(
        &self,
        tokens: &Tensor,
        seen: Option<&Tensor>,
        valid: Option<&Tensor>,
    ) -> Result<Tensor, Error> {
        let embedded = self.embed(tokens, seen)?;
        Ok(self.language.scores(&self.language.hidden(&embedded, valid, None)))
    }

    /// Prompts to go on with, padded on the left, their images' `seen` in the order of the prompts.
    ///
    /// # Errors
    /// As [`Llava::embed`].
    pub fn prompts(
        &self,
        prompts: &[Vec<i64>],
        seen: Option<&Tensor>,
        device: Device,
    ) -> Result<Prompts, Error> {
        let length = prompts.iter().map(Vec::len).max().unwrap_or(0);
        // Padding is any token that is no image's.
        let padding = i64::from(self.image_token == 0);
        let (mut tokens, mut valid) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let missing = length - prompt.len();
            tokens.extend(std::iter::repeat_n(padding, missing).chain(prompt.iter().copied()));
            valid.extend((0..length).map(|place| place >= missing));
        }
        let shape = [prompts.len() as i64, length as i64];
        let tensor = |values: Tensor| values.f_view(shape)?.f_to_device(device);
        let tokens = tensor(Tensor::f_from_slice(&tokens)?)?;
        let valid = tensor(Tensor::f_from_slice(&valid)?)?;
        Ok(Prompts { embedded: tch::no_grad(|| self.embed(&tokens, seen))?, valid })
    }
}
