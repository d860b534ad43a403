//! Named frozen tensors, checked against their model: a tensor that is missing, unexpected or of the wrong
//! shape gives an error that names it.

pub mod draw;

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::spec::model::TensorSpec;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::weights::draw::initial;
use crate::{Error, ModelSpec};

/// Named tensors without gradients.
#[derive(Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// From named tensors.
    pub fn new(tensors: BTreeMap<String, Tensor>) -> Self {
        Self { tensors }
    }

    /// A randomly initialised model.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn random(model_spec: &ModelSpec, seed: u64) -> Result<Self, Error> {
        Self::random_kept(model_spec, seed, Ok)
    }

    /// As [`Self::random`]; each tensor is passed through `keep`, for example to another dtype or device, before the next
    /// one is made, so that a large model is never in memory twice.
    ///
    /// # Errors
    /// Errors of `keep`; if memory cannot be allocated.
    pub fn random_kept<E: From<Error>>(
        model_spec: &ModelSpec,
        seed: u64,
        keep: impl Fn(Tensor) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let draw = |tensor: &TensorSpec| {
            let spec = TrainableSpec {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                init: tensor.init.clone(),
                group: Group::Backbone,
            };
            initial(&spec, seed, &Self::default())
        };
        let mut weights = Self::default();
        // As many at a time as there are threads.
        for some in model_spec.tensors.chunks(rayon::current_num_threads().max(1)) {
            let drawn: Vec<Result<Tensor, Error>> = some.par_iter().map(draw).collect();
            for (tensor, drawn) in some.iter().zip(drawn) {
                weights.tensors.insert(tensor.name.clone(), keep(drawn?)?);
            }
        }
        Ok(weights)
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<&Tensor, Error> {
        self.tensors
            .get(name)
            .ok_or_else(|| Error::MissingTensor { name: name.into(), place: "the frozen weights".into() })
    }

    /// Replaces or adds a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Removes a tensor.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// Names and tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Shallow copies: the tensors share their storage.
    pub fn shallow_clone(&self) -> Self {
        Self { tensors: self.tensors.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect() }
    }

    /// In another dtype; tensors that have it already are shared.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn to_kind(&self, kind: Kind) -> Result<Self, Error> {
        let tensors = self.tensors.iter().map(|(n, t)| Ok((n.clone(), t.f_to_kind(kind)?)));
        Ok(Self { tensors: tensors.collect::<Result<_, Error>>()? })
    }

    /// Copies to `device`.
    ///
    /// # Errors
    /// If the device has not enough memory.
    pub fn to_device(&self, device: Device) -> Result<Self, Error> {
        let tensors = self.tensors.iter().map(|(n, t)| Ok((n.clone(), t.f_to_device(device)?)));
        Ok(Self { tensors: tensors.collect::<Result<_, Error>>()? })
    }

    /// Checks names and shapes against `model_spec`, and that all values are finite; errors mention `place`.
    ///
    /// # Errors
    /// For the first tensor that is missing, unexpected, of another shape, or that holds NaN or infinity.
    pub fn check(&self, model_spec: &ModelSpec, place: &str) -> Result<(), Error> {
        for spec in &model_spec.tensors {
            let found = self
                .tensors
                .get(&spec.name)
                .map(Tensor::size)
                .ok_or_else(|| Error::MissingTensor { name: spec.name.clone(), place: place.into() })?;
            if found != spec.shape {
                let (name, expected) = (spec.name.clone(), spec.shape.clone());
                return Err(Error::WrongShape { name, place: place.into(), found, expected });
            }
        }
        let known: BTreeSet<_> = model_spec.tensors.iter().map(|spec| &spec.name).collect();
        if let Some(name) = self.tensors.keys().find(|name| !known.contains(name)) {
            return Err(Error::UnexpectedTensor { name: name.clone(), place: place.into() });
        }
        for (name, tensor) in &self.tensors {
            if !is_finite(tensor)? {
                return Err(Error::NotFiniteTensor { name: name.clone(), place: place.into() });
            }
        }
        Ok(())
    }
}

/// Whether all values of a tensor are finite.
pub fn is_finite(tensor: &Tensor) -> Result<bool, Error> {
    if tensor.numel() == 0 {
        return Ok(true);
    }
    // If any value is NaN, both are NaN. Ten times as fast as `isfinite().all()`, which makes copies.
    let (min, max) = tensor.f_aminmax(None::<i64>, false)?;
    Ok(f64::try_from(min)?.is_finite() && f64::try_from(max)?.is_finite())
}
