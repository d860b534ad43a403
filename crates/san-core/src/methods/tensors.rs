//! Helpers for methods that train the backbone's own tensors.

use crate::spec::init::Init;
use crate::spec::model::NormSpec;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec};

/// A checkpoint tensor, trained from its published value.
pub(super) fn from_frozen(name: &str, shape: &[i64]) -> TrainableSpec {
    TrainableSpec {
        name: name.into(),
        shape: shape.to_vec(),
        init: Init::Frozen(name.into()),
        group: Group::Backbone,
    }
}

/// Names and lengths of every norm's weight and bias (if any).
pub(super) fn norm_tensors(model_spec: &ModelSpec) -> impl Iterator<Item = (String, i64)> {
    let tensors = |norm: &NormSpec| {
        let parts = [Some("weight"), norm.bias.then_some("bias")];
        let (name, width) = (norm.name.clone(), norm.width);
        parts.into_iter().flatten().map(move |part| (format!("{name}.{part}"), width))
    };
    model_spec.norms.iter().flat_map(tensors)
}

/// Specs of the tensors with these names and lengths, trained from their published values.
pub(super) fn specs(tensors: impl Iterator<Item = (String, i64)>) -> Vec<TrainableSpec> {
    tensors.map(|(name, length)| from_frozen(&name, &[length])).collect()
}

/// The trained tensors of these names, as replacements for the frozen ones.
///
/// # Errors
/// If one was not allocated.
pub(super) fn replacing(
    tensors: impl Iterator<Item = (String, i64)>,
    trainables: &Trainables,
) -> Result<AdapterSet, Error> {
    let mut adapters = AdapterSet::default();
    for (name, _) in tensors {
        let trained = trainables.get(&name)?;
        adapters.replaced.insert(name, trained);
    }
    Ok(adapters)
}
