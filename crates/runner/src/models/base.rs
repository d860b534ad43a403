//! The frozen base model of a run, for any modality.

use std::rc::Rc;

use san_core::{ModelSpec, Weights};
use tch::{Device, Tensor};

use crate::models::backbone::LoadedBackbone;
use crate::models::language::LoadedLanguageModel;

/// A frozen model.
#[derive(Debug, Clone)]
pub enum BaseModel {
    /// A vision backbone: images to features.
    Vision(Rc<LoadedBackbone>),
    /// A language model, with a vision tower if it takes images.
    Language(Rc<LoadedLanguageModel>),
}

impl BaseModel {
    /// Tensors, sites and norms that a method sees.
    pub fn model_spec(&self) -> &ModelSpec {
        match self {
            Self::Vision(model) => &model.model_spec,
            Self::Language(model) => &model.model_spec,
        }
    }

    /// The frozen weights, on the device.
    pub fn weights(&self) -> &Weights {
        match self {
            Self::Vision(model) => &model.weights,
            Self::Language(model) => &model.weights,
        }
    }

    /// Moves the frozen weights of a language model to main memory, if nothing else uses it.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub(crate) fn move_weights_to_host(&mut self) -> Result<(), san_core::Error> {
        if let Self::Language(model) = self
            && let Some(model) = Rc::get_mut(model)
        {
            model.weights = model.weights.to_device(Device::Cpu)?;
        }
        Ok(())
    }

    /// A tensor of the head in the published file, if that has one.
    pub fn head_tensor(&self, name: &str) -> Option<&Tensor> {
        match self {
            Self::Vision(model) => model.head.get(name).ok(),
            Self::Language(_) => None,
        }
    }

    /// blake3 of the files, or `random:<seed>`.
    pub fn checksum(&self) -> &str {
        match self {
            Self::Vision(model) => &model.checksum,
            Self::Language(model) => &model.checksum,
        }
    }

    /// The configuration in its publisher's format.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn published_config(&self) -> Result<serde_json::Value, backbones::Error> {
        match self {
            Self::Vision(model) => model.architecture.published_config(),
            Self::Language(model) => model.architecture.published_config(),
        }
    }
}
