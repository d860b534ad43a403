//! A backbone with a trained linear head.

use san_core::nn::attachment::Scope;
use san_core::nn::parameter::{Parameter, linear};
use san_core::spec::model::HeadSpec;
use san_core::{Attachment, Error, Layout, Trainables, Weights};
use tch::Tensor;

use crate::{Architecture, Backbone};

/// Maps images to class logits.
#[derive(Debug)]
pub struct Classifier {
    backbone: Box<dyn Backbone>,
    weight: Parameter,
    bias: Parameter,
}

impl Classifier {
    /// A model from frozen weights, an attachment and the trained head in `trainables`.
    ///
    /// # Errors
    /// If a tensor is missing.
    pub fn new(
        architecture: &dyn Architecture,
        layout: &Layout,
        weights: &Weights,
        attachment: &Attachment,
        trainables: &Trainables,
    ) -> Result<Self, Error> {
        let [weight, bias] = head_tensors(layout)?;
        Ok(Self {
            backbone: architecture.build(&Scope::new(weights, attachment))?,
            weight: Parameter::Trained(trainables.get(&weight)?),
            bias: Parameter::Trained(trainables.get(&bias)?),
        })
    }

    /// A model from plain weights including the head, as produced by [`san_core::adapters::merge::merge`].
    ///
    /// # Errors
    /// If a tensor is missing.
    pub fn merged(
        architecture: &dyn Architecture,
        layout: &Layout,
        weights: &Weights,
    ) -> Result<Self, Error> {
        let [weight, bias] = head_tensors(layout)?;
        let frozen = |name: &str| weights.get(name).map(Tensor::shallow_clone);
        Ok(Self {
            backbone: architecture.build(&Scope::new(weights, &Attachment::default()))?,
            weight: Parameter::Frozen(frozen(&weight)?),
            bias: Parameter::Frozen(frozen(&bias)?),
        })
    }

    /// Class logits `[K * batch, classes]` of images `[K * batch, 3, size, size]`.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        self.head(&self.features(images))
    }

    /// The head's input, `[K * batch, features]`.
    pub fn features(&self, images: &Tensor) -> Tensor {
        self.backbone.features(images)
    }

    /// Class logits of features.
    pub fn head(&self, features: &Tensor) -> Tensor {
        linear(features, &self.weight, Some(&self.bias))
    }
}

fn head_tensors(layout: &Layout) -> Result<[String; 2], Error> {
    let missing = || Error::MissingTensor {
        name: "head".into(),
        place: format!("{}, which is no image classifier", layout.backbone),
    };
    layout.head.as_ref().map(HeadSpec::tensors).ok_or_else(missing)
}
