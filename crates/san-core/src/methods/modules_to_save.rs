//! Backbone modules that are fully trained in addition to a method, like peft's `modules_to_save`: LLaVA's
//! recipe trains its projector this way under every method, with a separate learning rate.

use crate::methods::Method;
use crate::methods::tensors::from_frozen;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec};

/// The tensors of a method plus those named by `modules_to_save`, which are in [`Group::ModulesToSave`].
///
/// # Errors
/// If the method is not compatible with the backbone or updates a fully trained tensor, or if a name is not one of the
/// backbone's tensors.
pub fn trainables_with(
    method: &dyn Method,
    modules_to_save: &[String],
    model_spec: &ModelSpec,
) -> Result<Vec<TrainableSpec>, Error> {
    let mut specs = method.trainables(model_spec)?;
    specs.retain(|spec| !modules_to_save.contains(&spec.name));
    // A matrix update relies on the frozen values (DoRA's row norms, PiSSA's factors), which full training
    // would change.
    let weight = |spec: &TrainableSpec| spec.name.rsplit_once('.').map(|(site, _)| format!("{site}.weight"));
    let conflict = specs.iter().find(|spec| {
        spec.shape.len() > 1 && weight(spec).is_some_and(|weight| modules_to_save.contains(&weight))
    });
    if let Some(spec) = conflict {
        return Err(Error::Incompatible {
            method: method.name().into(),
            backbone: model_spec.backbone.clone(),
            reason: format!(
                "`{}` would update a module that is fully trained (`modules_to_save`)",
                spec.name
            ),
        });
    }
    for name in modules_to_save {
        let tensor =
            model_spec.tensors.iter().find(|tensor| tensor.name == *name).ok_or_else(|| {
                Error::MissingTensor { name: name.clone(), place: model_spec.backbone.clone() }
            })?;
        specs.push(TrainableSpec { group: Group::ModulesToSave, ..from_frozen(name, &tensor.shape) });
    }
    Ok(specs)
}

/// Replaces the frozen tensors by the fully trained ones.
///
/// # Errors
/// If one was not allocated.
pub(super) fn attach_modules_to_save(
    modules_to_save: &[String],
    trainables: &Trainables,
    adapters: &mut AdapterSet,
) -> Result<(), Error> {
    for name in modules_to_save {
        adapters.replaced.insert(name.clone(), trainables.get(name)?);
    }
    Ok(())
}

/// Returns an error if there are `modules_to_save`, for file formats that cannot store them.
///
/// # Errors
/// If `modules_to_save` is not empty.
pub(crate) fn reject_modules_to_save(method: &dyn Method, modules_to_save: &[String]) -> Result<(), Error> {
    if modules_to_save.is_empty() {
        return Ok(());
    }
    let reason =
        format!("{}, fully trained in addition to the method, would be lost", modules_to_save.join(", "));
    Err(Error::Unexportable { method: method.name().into(), reason })
}
