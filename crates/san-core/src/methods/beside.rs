//! A method, and tensors of the backbone that are trained whole beside it, at a learning rate of their own: LLaVA's
//! recipe trains its projector so under every method.

use serde_json::Value;

use crate::adapters::peft::PeftForm;
use crate::methods::Method;
use crate::methods::whole::from_frozen;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::train::trainables::Trainables;
use crate::{Attachment, Error, Layout, Weights};

/// The method, with the tensors of these names in [`Group::Beside`].
pub fn beside(method: Box<dyn Method>, names: Vec<String>) -> Box<dyn Method> {
    Box::new(Beside { method, names })
}

#[derive(Debug)]
struct Beside {
    method: Box<dyn Method>,
    names: Vec<String>,
}

impl Method for Beside {
    fn name(&self) -> &'static str {
        self.method.name()
    }

    fn label(&self) -> String {
        self.method.label()
    }

    fn options(&self) -> Value {
        self.method.options()
    }

    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        let mut specs = self.method.trainables(layout)?;
        specs.retain(|spec| !self.names.contains(&spec.name));
        // An update of a matrix counts on its frozen values (DoRA's row norms, PiSSA's factors), and these are not left.
        let site =
            |spec: &TrainableSpec| spec.name.rsplit_once('.').map(|(site, _)| format!("{site}.weight"));
        let twice = specs.iter().find(|spec| {
            spec.shape.len() > 1 && site(spec).is_some_and(|weight| self.names.contains(&weight))
        });
        if let Some(spec) = twice {
            return Err(Error::Unfit {
                method: self.name().into(),
                backbone: layout.backbone.clone(),
                reason: format!("`{}` would update what is trained whole beside it", spec.name),
            });
        }
        for name in &self.names {
            let tensor =
                layout.tensors.iter().find(|tensor| tensor.name == *name).ok_or_else(|| {
                    Error::MissingTensor { name: name.clone(), place: layout.backbone.clone() }
                })?;
            specs.push(TrainableSpec { group: Group::Beside, ..from_frozen(name, &tensor.shape) });
        }
        Ok(specs)
    }

    fn constants(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        self.method.constants(layout)
    }

    fn attach(
        &self,
        layout: &Layout,
        weights: &Weights,
        trainables: &Trainables,
    ) -> Result<Attachment, Error> {
        let mut attachment = self.method.attach(layout, weights, trainables)?;
        for name in &self.names {
            attachment.replaced.insert(name.clone(), trainables.get(name)?);
        }
        Ok(attachment)
    }

    fn unmergeable(&self) -> Option<&'static str> {
        self.method.unmergeable()
    }

    fn to_peft(&self, _: &Layout, _: &Weights, _: &Trainables, _: i64) -> Result<PeftForm, Error> {
        let reason = "the tensors that were trained whole beside it would be lost".into();
        Err(Error::Unexportable { method: self.name().into(), reason })
    }
}
