//! What a method attaches to a model, and the builder that applies it.
//!
//! A backbone is built through a [`ModelBuilder`], which resolves the names of the published checkpoint to parameters,
//! norms and sites; any of them may be trained or carry an adapter.

use std::collections::BTreeMap;
use std::rc::Rc;

use tch::Tensor;

use crate::nn::branch::{Bottleneck, Branch, Prompts, StochasticDepth};
use crate::nn::parameter::Parameter;
use crate::nn::site::{Adapter, Norm, NormAffine, Site};
use crate::spec::model::SiteSpec;
use crate::{Error, Weights};

/// Everything that a method attaches to a model.
#[derive(Debug, Default)]
pub struct AdapterSet {
    /// Trained tensors `[K, ...]` that replace frozen ones, by the frozen tensor's name.
    pub replaced: BTreeMap<String, Tensor>,
    /// Adapters, by site.
    pub sites: BTreeMap<String, Rc<dyn Adapter>>,
    /// Scale and shift after norms, by norm.
    pub norms: BTreeMap<String, Rc<NormAffine>>,
    /// Bottlenecks, by residual branch.
    pub branches: BTreeMap<String, Rc<dyn Bottleneck>>,
    /// Prompts, by the block that they precede.
    pub prompts: BTreeMap<String, Rc<Prompts>>,
    /// Stochastic depth; the training loop sets its rate.
    pub stochastic_depth: Rc<StochasticDepth>,
}

/// A prefix in the tree of checkpoint names, from which a model is built.
#[derive(Debug, Clone)]
pub struct ModelBuilder<'a> {
    weights: &'a Weights,
    adapters: &'a AdapterSet,
    path: String,
}

impl<'a> ModelBuilder<'a> {
    /// The root builder.
    pub fn new(weights: &'a Weights, adapters: &'a AdapterSet) -> Self {
        Self { weights, adapters, path: String::new() }
    }

    /// The child builder `name`.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { path: self.full(&name.to_string()), ..self.clone() }
    }

    fn full(&self, name: &str) -> String {
        match (self.path.as_str(), name) {
            ("", name) => name.to_owned(),
            (path, "") => path.to_owned(),
            (path, name) => format!("{path}.{name}"),
        }
    }

    /// A tensor.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn parameter(&self, name: &str) -> Result<Parameter, Error> {
        let name = self.full(name);
        let frozen = self.weights.get(&name)?;
        Ok(match self.adapters.replaced.get(&name) {
            Some(trained) => Parameter::replacing(frozen, trained.shallow_clone()),
            None => Parameter::Frozen(frozen.shallow_clone()),
        })
    }

    /// A tensor that exists only in some configurations.
    ///
    /// # Errors
    /// If `present` and there is no tensor of that name.
    pub fn optional(&self, name: &str, present: bool) -> Result<Option<Parameter>, Error> {
        if present { self.parameter(name).map(Some) } else { Ok(None) }
    }

    /// A layer norm.
    ///
    /// # Errors
    /// If its tensors are missing.
    pub fn norm(&self, name: &str, epsilon: f64) -> Result<Norm, Error> {
        let builder = self.at(name);
        let affine = self.adapters.norms.get(&builder.path).cloned();
        Ok(Norm::layer(builder.parameter("weight")?, builder.parameter("bias")?, epsilon, affine))
    }

    /// An RMS norm.
    ///
    /// # Errors
    /// If its weight is missing.
    pub fn rms_norm(&self, name: &str, epsilon: f64) -> Result<Norm, Error> {
        let builder = self.at(name);
        let affine = self.adapters.norms.get(&builder.path).cloned();
        Ok(Norm::rms(builder.parameter("weight")?, epsilon, affine))
    }

    /// A site as described in the model spec; its name is a full path.
    ///
    /// # Errors
    /// If its tensors are missing.
    pub fn site(&self, spec: &SiteSpec) -> Result<Site, Error> {
        let builder = Self { path: spec.name.clone(), ..self.clone() };
        let adapter = self.adapters.sites.get(&spec.name).cloned();
        let weight = builder.parameter("weight")?.reshape(&[spec.outputs, spec.inputs]);
        Ok(Site::new(spec.projection, weight, builder.optional("bias", spec.bias)?, adapter))
    }

    /// A residual branch of block `block` out of `blocks`; an empty name means the builder itself.
    pub fn branch(&self, name: &str, block: i64, blocks: i64) -> Branch {
        let name = self.full(name);
        let bottleneck = self.adapters.branches.get(&name).cloned();
        #[allow(clippy::cast_precision_loss)]
        let depth = if blocks > 1 { block as f64 / (blocks - 1) as f64 } else { 0.0 };
        Branch::new(name, depth, bottleneck, self.adapters.stochastic_depth.clone())
    }

    /// The prompts that a method inserts before this block.
    pub fn prompts(&self) -> Option<Rc<Prompts>> {
        self.adapters.prompts.get(&self.path).cloned()
    }
}
