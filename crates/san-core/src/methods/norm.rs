//! Norm tuning: weight and bias of every norm.

use serde::{Deserialize, Serialize};

use crate::methods::tensors::{norm_tensors, replacing, specs};
use crate::methods::{Method, MethodInfo, parse};
use crate::spec::trainable::TrainableSpec;
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "norm",
    label: "Norm tuning",
    summary: "weight and bias of every norm",
    inference_cost: "none",
    source: "norm tuning",
    published_as: &[],
    parse: parse::<Norms>,
    from_peft: None,
};

/// Weight and bias of every norm.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Norms {}

impl Method for Norms {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        Ok(specs(norm_tensors(model_spec)))
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        replacing(norm_tensors(model_spec), trainables)
    }
}
