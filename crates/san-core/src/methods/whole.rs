//! The two ends of the scale: nothing but the head, and everything.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Method;
use crate::init::Init;
use crate::trainables::{Group, TrainableSpec, Trainables};
use crate::{Attachment, Error, Layout, Weights};

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

    fn trainables(&self, _: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        Ok(Vec::new())
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

/// Names and lengths of every norm's weight and bias.
pub(super) fn norm_tensors(layout: &Layout) -> impl Iterator<Item = (String, i64)> {
    let both = |norm: &crate::layout::NormSpec| {
        let width = norm.width;
        [(format!("{}.weight", norm.name), width), (format!("{}.bias", norm.name), width)]
    };
    layout.norms.iter().flat_map(both)
}
