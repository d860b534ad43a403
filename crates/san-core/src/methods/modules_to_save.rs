//! Modules of the backbone that are trained whole in addition to a method, as peft's `modules_to_save`: LLaVA's recipe
//! trains its projector so under every method, at a learning rate of its own.

use crate::methods::Method;
use crate::methods::tensors::from_frozen;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::train::trainables::Trainables;
use crate::{Attachment, Error, Layout};

/// The tensors of a method and those named by `modules_to_save`, which are in [`Group::ModulesToSave`].
///
/// # Errors
/// If the method does not fit the backbone, updates a tensor that is trained whole, or a name is not one of the
/// backbone's.
pub fn trainables_with(
    method: &dyn Method,
    modules_to_save: &[String],
    layout: &Layout,
) -> Result<Vec<TrainableSpec>, Error> {
    let mut specs = method.trainables(layout)?;
    specs.retain(|spec| !modules_to_save.contains(&spec.name));
    // An update of a matrix builds on its frozen values (DoRA's row norms, PiSSA's factors), which would not be there.
    let weight = |spec: &TrainableSpec| spec.name.rsplit_once('.').map(|(site, _)| format!("{site}.weight"));
    let twice = specs.iter().find(|spec| {
        spec.shape.len() > 1 && weight(spec).is_some_and(|weight| modules_to_save.contains(&weight))
    });
    if let Some(spec) = twice {
        return Err(Error::Unfit {
            method: method.name().into(),
            backbone: layout.backbone.clone(),
            reason: format!("`{}` would update a module that is trained whole", spec.name),
        });
    }
    for name in modules_to_save {
        let tensor = layout
            .tensors
            .iter()
            .find(|tensor| tensor.name == *name)
            .ok_or_else(|| Error::MissingTensor { name: name.clone(), place: layout.backbone.clone() })?;
        specs.push(TrainableSpec { group: Group::ModulesToSave, ..from_frozen(name, &tensor.shape) });
    }
    Ok(specs)
}

/// Puts the tensors that are trained whole in the place of the frozen ones.
///
/// # Errors
/// If one was not allocated.
pub fn attach_whole(
    modules_to_save: &[String],
    trainables: &Trainables,
    attachment: &mut Attachment,
) -> Result<(), Error> {
    for name in modules_to_save {
        attachment.replaced.insert(name.clone(), trainables.get(name)?);
    }
    Ok(())
}

/// Refuses to leave out the modules that were trained whole, in a file that cannot hold them.
///
/// # Errors
/// If there are any.
pub fn check_whole(method: &dyn Method, modules_to_save: &[String]) -> Result<(), Error> {
    if modules_to_save.is_empty() {
        return Ok(());
    }
    let reason = format!("{}, trained whole in addition, would be lost", modules_to_save.join(", "));
    Err(Error::Unexportable { method: method.name().into(), reason })
}
