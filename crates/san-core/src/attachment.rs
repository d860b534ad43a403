//! What a method gives to a model: the frozen weights seen through it.
//!
//! A backbone is built by a [`Scope`], which hands out parameters, norms and sites by the names of
//! the published checkpoint; behind each name there may be a trained tensor or an adapter.

use std::collections::BTreeMap;
use std::rc::Rc;

use tch::Tensor;

use crate::parameter::Parameter;
use crate::site::{Adapter, Norm, NormAffine, Site};
use crate::{Error, Weights};

/// Everything a method attached.
#[derive(Debug, Default)]
pub struct Attachment {
    /// Trained tensors `[K, ...]` in place of frozen ones, by the frozen one's name.
    pub replaced: BTreeMap<String, Tensor>,
    /// Adapters, by site.
    pub sites: BTreeMap<String, Rc<dyn Adapter>>,
    /// Scale and shift behind norms, by norm.
    pub norms: BTreeMap<String, Rc<NormAffine>>,
}

/// A place in the tree of names from which a model is built.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    weights: &'a Weights,
    attachment: &'a Attachment,
    path: String,
}

impl<'a> Scope<'a> {
    /// The root.
    pub fn new(weights: &'a Weights, attachment: &'a Attachment) -> Self {
        Self { weights, attachment, path: String::new() }
    }

    /// A branch.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { path: self.full(&name.to_string()), ..self.clone() }
    }

    fn full(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A tensor.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn parameter(&self, name: &str) -> Result<Parameter, Error> {
        let name = self.full(name);
        Ok(match self.attachment.replaced.get(&name) {
            Some(trained) => Parameter::Trained(trained.shallow_clone()),
            None => Parameter::Frozen(self.weights.get(&name)?.shallow_clone()),
        })
    }

    /// A tensor that a configuration may leave out.
    ///
    /// # Errors
    /// When `present` and there is none of that name.
    pub fn optional(&self, name: &str, present: bool) -> Result<Option<Parameter>, Error> {
        if present { self.parameter(name).map(Some) } else { Ok(None) }
    }

    /// A layer norm.
    ///
    /// # Errors
    /// When its tensors are missing.
    pub fn norm(&self, name: &str, epsilon: f64) -> Result<Norm, Error> {
        let scope = self.at(name);
        let affine = self.attachment.norms.get(&scope.path).cloned();
        Ok(Norm::new(scope.parameter("weight")?, scope.parameter("bias")?, epsilon, affine))
    }

    /// A site whose weight, however it is stored, is read as `[outputs, inputs]`.
    ///
    /// # Errors
    /// When its tensors are missing.
    pub fn site(&self, name: &str, shape: [i64; 2], bias: bool) -> Result<Site, Error> {
        let scope = self.at(name);
        let adapter = self.attachment.sites.get(&scope.path).cloned();
        Ok(Site::new(scope.parameter("weight")?.reshape(&shape), scope.optional("bias", bias)?, adapter))
    }
}
