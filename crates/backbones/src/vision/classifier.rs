//! A backbone with a trained linear head.

use san_core::nn::builder::ModelBuilder;
use san_core::nn::parameter::{Parameter, linear};
use san_core::spec::model::HeadSpec;
use san_core::{AdapterSet, ModelSpec, Trainables, Weights};
use tch::Tensor;

use crate::{Architecture, Backbone, Error};

/// Maps images to class logits.
#[derive(Debug)]
pub struct Classifier {
    backbone: Box<dyn Backbone>,
    weight: Parameter,
    bias: Parameter,
}

impl Classifier {
    /// A model from frozen weights, an adapter set and the trained head in `trainables`.
    ///
    /// # Errors
    /// If a tensor is missing.
    pub fn new(
        architecture: &dyn Architecture,
        model_spec: &ModelSpec,
        weights: &Weights,
        adapters: &AdapterSet,
        trainables: &Trainables,
    ) -> Result<Self, Error> {
        let [weight, bias] = head_tensors(model_spec)?;
        Ok(Self {
            backbone: architecture.build(&ModelBuilder::new(weights, adapters))?,
            weight: Parameter::trained(trainables.get(&weight)?),
            bias: Parameter::trained(trainables.get(&bias)?),
        })
    }

    /// A model from plain weights including the head, as produced by [`san_core::adapters::merge::merge`].
    ///
    /// # Errors
    /// If a tensor is missing.
    pub fn merged(
        architecture: &dyn Architecture,
        model_spec: &ModelSpec,
        weights: &Weights,
    ) -> Result<Self, Error> {
        let [weight, bias] = head_tensors(model_spec)?;
        let frozen = |name: &str| weights.get(name).map(Tensor::shallow_clone);
        Ok(Self {
            backbone: architecture.build(&ModelBuilder::new(weights, &AdapterSet::default()))?,
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

    /// Class logits of features, in the head's dtype: f32, whatever that of the features.
    pub fn head(&self, features: &Tensor) -> Tensor {
        linear(&features.to_kind(self.weight.kind()), &self.weight, Some(&self.bias))
    }
}

fn head_tensors(model_spec: &ModelSpec) -> Result<[String; 2], Error> {
    let missing = || san_core::Error::MissingTensor {
        name: "head".into(),
        place: format!("{}, which is not an image classifier", model_spec.backbone),
    };
    model_spec.head.as_ref().map(HeadSpec::tensors).ok_or_else(|| missing().into())
}
