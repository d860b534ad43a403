//! Full fine-tuning: every tensor of the checkpoint is trained.

use serde::{Deserialize, Serialize};

use crate::methods::tensors::from_frozen;
use crate::methods::{Method, MethodInfo, parse};
use crate::spec::trainable::TrainableSpec;
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "fft",
    label: "FFT",
    summary: "every parameter (full fine-tuning)",
    inference_cost: "none",
    source: "full fine-tuning",
    published_as: &["Full", "FT"],
    parse: parse::<Full>,
    from_peft: None,
};

/// Full fine-tuning: every tensor of the checkpoint.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Full {}

impl Method for Full {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        Ok(model_spec.tensors.iter().map(|tensor| from_frozen(&tensor.name, &tensor.shape)).collect())
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        let mut adapters = AdapterSet::default();
        for tensor in &model_spec.tensors {
            adapters.replaced.insert(tensor.name.clone(), trainables.get(&tensor.name)?);
        }
        Ok(adapters)
    }
}
