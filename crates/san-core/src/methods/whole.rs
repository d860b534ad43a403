//! The ends of the scale: nothing, nothing but the head, and everything.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::methods::{Method, unfit};
use crate::spec::init::Init;
use crate::spec::model::NormSpec;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::train::trainables::Trainables;
use crate::{Attachment, Error, Layout, Weights};

/// The model as it is, where it can answer without a trained head.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Frozen {}

impl Method for Frozen {
    fn name(&self) -> &'static str {
        crate::methods::UNTRAINED
    }

    fn label(&self) -> String {
        "Zero-shot".into()
    }

    fn options(&self) -> Value {
        json!({})
    }

    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        match layout.head {
            None => Ok(Vec::new()),
            Some(_) => Err(unfit(self, layout, "it answers by a head, which must be trained")),
        }
    }

    fn attach(&self, _: &Layout, _: &Weights, _: &Trainables) -> Result<Attachment, Error> {
        Ok(Attachment::default())
    }
}

/// Linear probe: the head alone.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Linear {}

impl Method for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn label(&self) -> String {
        "Linear".into()
    }

    fn options(&self) -> Value {
        json!({})
    }

    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        match layout.head {
            Some(_) => Ok(Vec::new()),
            None => Err(unfit(self, layout, "it has no head to train; `frozen` reads it as it is")),
        }
    }

    fn attach(&self, _: &Layout, _: &Weights, _: &Trainables) -> Result<Attachment, Error> {
        Ok(Attachment::default())
    }

    fn features_are_frozen(&self) -> bool {
        true
    }
}

/// Full fine-tuning: every tensor of the checkpoint.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Full {}

impl Method for Full {
    fn name(&self) -> &'static str {
        "fft"
    }

    fn label(&self) -> String {
        "FFT".into()
    }

    fn options(&self) -> Value {
        json!({})
    }

    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        Ok(layout.tensors.iter().map(|tensor| from_frozen(&tensor.name, &tensor.shape)).collect())
    }

    fn attach(&self, layout: &Layout, _: &Weights, trainables: &Trainables) -> Result<Attachment, Error> {
        let mut attachment = Attachment::default();
        for tensor in &layout.tensors {
            attachment.replaced.insert(tensor.name.clone(), trainables.get(&tensor.name)?);
        }
        Ok(attachment)
    }
}

/// A tensor of the checkpoint, trained from its published value.
pub(super) fn from_frozen(name: &str, shape: &[i64]) -> TrainableSpec {
    TrainableSpec {
        name: name.into(),
        shape: shape.to_vec(),
        init: Init::Frozen(name.into()),
        group: Group::Backbone,
    }
}

/// Names and lengths of every norm's weight and, where it has one, bias.
pub(super) fn norm_tensors(layout: &Layout) -> impl Iterator<Item = (String, i64)> {
    let tensors = |norm: &NormSpec| {
        let parts = [Some("weight"), norm.bias.then_some("bias")];
        let (name, width) = (norm.name.clone(), norm.width);
        parts.into_iter().flatten().map(move |part| (format!("{name}.{part}"), width))
    };
    layout.norms.iter().flat_map(tensors)
}
