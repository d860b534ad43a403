//! No training: the language model as published, evaluated zero-shot.

use serde::{Deserialize, Serialize};

use crate::methods::{Method, MethodInfo, incompatible, parse};
use crate::spec::trainable::TrainableSpec;
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: super::UNTRAINED,
    label: "Zero-shot",
    summary: "nothing: the language model as published",
    inference_cost: "none",
    source: "zero-shot evaluation",
    published_as: &["Zero-shot"],
    parse: parse::<Frozen>,
    from_peft: None,
};

/// The unmodified model, for models that answer without a trained head.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Frozen {}

impl Method for Frozen {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        match model_spec.head {
            None => Ok(Vec::new()),
            Some(_) => {
                Err(incompatible(self, model_spec, "it has a classification head, which must be trained"))
            }
        }
    }

    fn attach(&self, _: &ModelSpec, _: &Weights, _: &Trainables) -> Result<AdapterSet, Error> {
        Ok(AdapterSet::default())
    }
}
