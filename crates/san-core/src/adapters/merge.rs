//! Merges any method into plain weights.
//!
//! Trained tensors replace the frozen ones; then each adapter is merged into its site, each input scale into
//! the site's columns and each affine map into its norm. The result has the names and shapes of the published
//! checkpoint and runs without any method attached.

use tch::Tensor;

use crate::spec::model::HeadSpec;
use crate::{AdapterSet, Error, ModelSpec, Trainables, Weights};

/// Weights, including a classification head, equivalent to run `run` of the stack.
///
/// # Errors
/// If a method cannot be merged, or the head is not among the trained tensors.
pub fn merge(
    model_spec: &ModelSpec,
    weights: &Weights,
    adapters: &AdapterSet,
    trainables: &Trainables,
    run: i64,
) -> Result<Weights, Error> {
    if let Some(name) = adapters.branches.keys().chain(adapters.prompts.keys()).next() {
        return Err(Error::Unmergeable {
            name: name.clone(),
            reason: "it has modules that no backbone weight can represent".into(),
        });
    }
    tch::no_grad(|| {
        let mut merged = weights.shallow_clone();
        for (name, trained) in &adapters.replaced {
            merged.insert(name, trained.f_get(run)?.f_detach()?);
        }
        for site in model_spec.sites.iter() {
            let Some(adapter) = adapters.sites.get(&site.name) else { continue };
            let (weight_name, bias_name) = (format!("{}.weight", site.name), format!("{}.bias", site.name));
            let stored = merged.get(&weight_name)?;
            let shape = stored.size();
            let weight = stored.f_reshape([site.outputs, site.inputs])?;
            let bias = site.bias.then(|| merged.get(&bias_name).map(Tensor::shallow_clone)).transpose()?;
            let (weight, bias) = adapter.merge(run, weight, bias)?;
            let weight = match adapter.input_scale() {
                Some(p) => site.projection.scale_inputs(&weight, &p.f_get(run.min(p.size()[0] - 1))?),
                None => weight,
            };
            merged.insert(weight_name, weight.f_reshape(shape)?);
            match bias {
                Some(bias) if site.bias => merged.insert(bias_name, bias),
                Some(_) => return Err(no_bias(&site.name)),
                None => {}
            }
        }
        for (name, affine) in &adapters.norms {
            let scale = affine.scale.f_get(run)?;
            let weight = merged.get(&format!("{name}.weight"))? * &scale;
            merged.insert(format!("{name}.weight"), weight);
            if let Some(shift) = &affine.shift {
                let bias = merged.get(&format!("{name}.bias"))? * &scale + shift.f_get(run)?;
                merged.insert(format!("{name}.bias"), bias);
            }
        }
        for name in model_spec.head.iter().flat_map(HeadSpec::tensors) {
            merged.insert(&name, trainables.get(&name)?.f_get(run)?.f_detach()?);
        }
        Ok(merged)
    })
}

fn no_bias(site: &str) -> Error {
    Error::Unmergeable {
        name: site.into(),
        reason: "the method adds a shift, but the projection has no bias".into(),
    }
}
