//! The architecture of a model of any kind, by the name under which an experiment refers to it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use backbones::language::LanguageArchitecture;
use backbones::vlm::llava;
use backbones::weights::{self, Published};
use backbones::{Architecture, registry};
use san_core::ModelSpec;

use crate::models::place;

/// An architecture, without weights.
#[derive(Debug)]
pub enum NamedArchitecture {
    /// Images to features.
    Vision(Box<dyn Architecture>),
    /// Text only.
    Language(Arc<dyn LanguageArchitecture>),
    /// Text and images.
    Llava(llava::Architecture),
}

impl NamedArchitecture {
    /// The model `name`: of the registry, `<tower>+<language model>`, or in its folder under `root`. Published language
    /// models are also known before their folder is there.
    ///
    /// # Errors
    /// When there is no such model, or its configuration is not supported.
    pub fn find(name: &str, root: Option<&Path>) -> Result<Self> {
        if let Some((language, _)) = registry::bundled_language(name) {
            return Ok(Self::Language(language));
        }
        if let Some((llava, _)) = registry::bundled_llava(name) {
            return Ok(Self::Llava(llava));
        }
        if let Some((tower, language)) = name.split_once('+')
            && let (Self::Vision(tower), Self::Language(language)) =
                (Self::find(tower, root)?, Self::find(language, root)?)
        {
            let image_token = language.vocabulary();
            return Ok(Self::Llava(llava::Architecture { tower, language, image_token }));
        }
        let vision = registry::find(name).map(|entry| entry.architecture);
        let folder = place::of_model(name, root);
        match (vision, folder) {
            (Ok(vision), _) => Ok(Self::Vision(vision)),
            (Err(_), Ok(folder)) => Ok(match weights::architecture(&folder)? {
                Published::Vision(model) => Self::Vision(model.architecture),
                Published::Language(language) => Self::Language(language),
                Published::Llava(llava) => Self::Llava(llava),
            }),
            (Err(_), Err(missing)) if place::is_path(name) => Err(missing.into()),
            (Err(unknown), Err(_)) => {
                registry::published_language(name).map(Self::Language).ok_or_else(|| unknown.into())
            }
        }
    }

    /// Tensors, sites and norms that a method sees; `name` is for messages.
    pub fn model_spec(&self, name: &str) -> ModelSpec {
        match self {
            Self::Vision(vision) => vision.model_spec(name),
            Self::Language(language) => language.model_spec(name),
            Self::Llava(llava) => llava.model_spec(name),
        }
    }
}
