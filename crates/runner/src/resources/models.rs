//! Loaded models: vision backbones by name and image size, and the last language model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Result;
use backbones::registry;
use backbones::weights::Target;
use data_loaders::ImageProtocol;
use tch::{Device, Kind};

use crate::models::backbone::RANDOM;
use crate::models::{BaseModel, LoadedBackbone, LoadedLanguageModel, NamedArchitecture};
use crate::models::{input, place};

/// Models, each loaded once.
#[derive(Debug)]
pub struct Models {
    root: Option<PathBuf>,
    device: Device,
    backbones: HashMap<(String, u32), Rc<LoadedBackbone>>,
    language: Option<(String, Rc<LoadedLanguageModel>)>,
}

impl Models {
    pub(super) fn new(root: Option<PathBuf>, device: Device) -> Self {
        Self { root, device, backbones: HashMap::new(), language: None }
    }

    /// The folder of the models' folders, if `SAN_WEIGHTS` is set.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Where weights are kept.
    pub fn device(&self) -> Device {
        self.device
    }

    /// A vision backbone with its weights on the device.
    ///
    /// # Errors
    /// When it is unknown, or its weights are missing or do not fit.
    pub fn backbone(&mut self, name: &str, image_size: u32) -> Result<Rc<LoadedBackbone>> {
        let key = (name.to_owned(), image_size);
        if let Some(backbone) = self.backbones.get(&key) {
            return Ok(backbone.clone());
        }
        let backbone = LoadedBackbone::load(name, image_size, self.root.as_deref(), self.device)?;
        let backbone = Rc::new(backbone);
        self.backbones.insert(key, backbone.clone());
        Ok(backbone)
    }

    /// A language model with frozen matrices of dtype `kind`, its weights on the device; the last one stays loaded.
    ///
    /// # Errors
    /// When it is unknown, or its files are missing or do not fit.
    pub fn language(&mut self, name: &str, kind: Kind) -> Result<Rc<LoadedLanguageModel>> {
        self.cached(format!("{name} {kind:?}"), |models| {
            LoadedLanguageModel::read(name, models.root.as_deref(), Target { kind, device: models.device })
        })
    }

    /// A language model with a vision tower for images of `image_size` pixels: a bundled LLaVA, a published one in its
    /// folder, or `<tower>+<language model>`, whose projector has its initial values until `san align` has been run.
    ///
    /// # Errors
    /// When it is unknown, or its files are missing or do not fit.
    pub fn llava(&mut self, name: &str, image_size: u32, kind: Kind) -> Result<Rc<LoadedLanguageModel>> {
        self.cached(format!("{name} {image_size} {kind:?}"), |models| {
            models.load_llava(name, image_size, kind)
        })
    }

    /// The architecture of a model of any kind; no weights are read.
    ///
    /// # Errors
    /// When there is no such model, or its configuration is not supported.
    pub fn architecture(&self, name: &str) -> Result<NamedArchitecture> {
        let name = name.strip_suffix(RANDOM).unwrap_or(name);
        NamedArchitecture::find(name, self.root.as_deref())
    }

    /// The input that the weights of an image model were trained on.
    ///
    /// # Errors
    /// When it is not known, or of a kind that is not supported.
    pub fn input(&self, name: &str) -> Result<ImageProtocol> {
        input::of_model(name, self.root.as_deref())
    }

    /// A model of any kind in f32, for images of its own size if it takes images.
    ///
    /// # Errors
    /// When it is unknown, or its files are missing or do not fit.
    pub fn base(&mut self, name: &str) -> Result<BaseModel> {
        Ok(match self.architecture(name)? {
            NamedArchitecture::Vision(vision) => {
                BaseModel::Vision(self.backbone(name, u32::try_from(vision.image_size())?)?)
            }
            NamedArchitecture::Language(_) => BaseModel::Language(self.language(name, Kind::Float)?),
            NamedArchitecture::Llava(llava) => {
                let size = u32::try_from(llava.tower.image_size())?;
                BaseModel::Language(self.llava(name, size, Kind::Float)?)
            }
        })
    }

    /// Forgets the language model that stays loaded, so that its weights are freed with their last user.
    pub(crate) fn release_language(&mut self) {
        self.language = None;
    }

    fn cached(
        &mut self,
        key: String,
        load: impl FnOnce(&mut Self) -> Result<LoadedLanguageModel>,
    ) -> Result<Rc<LoadedLanguageModel>> {
        if let Some((known, model)) = &self.language
            && *known == key
        {
            return Ok(model.clone());
        }
        let model = Rc::new(load(self)?);
        self.language = Some((key, model.clone()));
        Ok(model)
    }

    fn load_llava(&mut self, name: &str, image_size: u32, kind: Kind) -> Result<LoadedLanguageModel> {
        let target = Target { kind, device: self.device };
        let published = name.strip_suffix(RANDOM).unwrap_or(name);
        let language = |models: &Self, name| LoadedLanguageModel::read(name, models.root.as_deref(), target);
        let mut model = if let Some((_, files)) = registry::bundled_llava(published) {
            let tower = self.backbone(files.tower, image_size)?;
            LoadedLanguageModel::bundled_llava(published, &tower, language(self, files.language)?, target)?
        } else if let Some((tower, language_name)) = published.split_once('+') {
            // The parts of a pair with random weights need none either.
            let suffix = if name.ends_with(RANDOM) { RANDOM } else { "" };
            let tower = self.backbone(&format!("{tower}{suffix}"), image_size)?;
            let language = language(self, &format!("{language_name}{suffix}"))?;
            let projector = self.projector_file(published).ok().filter(|path| path.is_file());
            LoadedLanguageModel::joined_llava(published, &tower, language, projector.as_deref(), target)?
        } else {
            LoadedLanguageModel::read_llava(name, self.root.as_deref(), target, image_size)?
        };
        if name.ends_with(RANDOM) {
            model.forget(name, target)?;
        }
        Ok(model)
    }

    /// The path of the aligned projector of `<tower>+<language model>`, whether or not it exists.
    ///
    /// # Errors
    /// When `SAN_WEIGHTS` is not set.
    pub fn projector_file(&self, name: &str) -> Result<PathBuf, backbones::Error> {
        let missing = || backbones::Error::MissingWeights {
            backbone: name.into(),
            place: "SAN_WEIGHTS, which is not set".into(),
        };
        let root = self.root.as_deref().ok_or_else(missing)?;
        Ok(root.join(place::label(name)).join("projector.safetensors"))
    }
}
