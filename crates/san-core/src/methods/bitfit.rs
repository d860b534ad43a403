//! BitFit: the bias of every projection and norm (arXiv 2106.10199).

use serde::{Deserialize, Serialize};

use crate::methods::tensors::{replacing, specs};
use crate::methods::{Method, MethodInfo, incompatible, parse};
use crate::spec::trainable::TrainableSpec;
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "bitfit",
    label: "BitFit",
    summary: "the bias of every projection and norm",
    inference_cost: "none",
    source: "Ben Zaken et al., arXiv 2106.10199",
    published_as: &["BitFit"],
    parse: parse::<BitFit>,
    from_peft: None,
};

/// BitFit: the bias of every projection and norm.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BitFit {}

impl Method for BitFit {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        if biases(model_spec).next().is_none() {
            return Err(incompatible(self, model_spec, "it has no bias"));
        }
        Ok(specs(biases(model_spec)))
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        replacing(biases(model_spec), trainables)
    }
}

/// Names and lengths of the biases.
fn biases(model_spec: &ModelSpec) -> impl Iterator<Item = (String, i64)> {
    let sites = model_spec.sites.iter().filter(|site| site.bias).map(|site| (&site.name, site.outputs));
    let norms = model_spec.norms.iter().filter(|norm| norm.bias).map(|norm| (&norm.name, norm.width));
    sites.chain(norms).map(|(name, length)| (format!("{name}.bias"), length))
}
