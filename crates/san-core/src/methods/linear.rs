//! Linear probe: only the head is trained, on frozen features.

use serde::{Deserialize, Serialize};

use crate::methods::{Method, MethodInfo, incompatible, parse};
use crate::spec::trainable::TrainableSpec;
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "linear",
    label: "Linear",
    summary: "only the head, on frozen features",
    inference_cost: "none",
    source: "linear probe",
    published_as: &["Linear"],
    parse: parse::<Linear>,
    from_peft: None,
};

/// Linear probe: only the head is trained.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Linear {}

impl Method for Linear {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        match model_spec.head {
            Some(_) => Ok(Vec::new()),
            None => Err(incompatible(
                self,
                model_spec,
                "it has no head to train; use `frozen` to evaluate it as published",
            )),
        }
    }

    fn attach(&self, _: &ModelSpec, _: &Weights, _: &Trainables) -> Result<AdapterSet, Error> {
        Ok(AdapterSet::default())
    }

    fn features_are_frozen(&self) -> bool {
        true
    }
}
