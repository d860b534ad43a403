//! A part of the backbone's own tensors: its biases (BitFit, arXiv 2106.10199), or its norms.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::methods::whole::{from_frozen, norm_tensors};
use crate::methods::{Method, unfit};
use crate::spec::trainable::TrainableSpec;
use crate::train::trainables::Trainables;
use crate::{Attachment, Error, Layout, Weights};

/// BitFit: the bias of every projection and norm.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BitFit {}

impl Method for BitFit {
    fn name(&self) -> &'static str {
        "bitfit"
    }

    fn label(&self) -> String {
        "BitFit".into()
    }

    fn options(&self) -> Value {
        json!({})
    }

    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        if biases(layout).next().is_none() {
            return Err(unfit(self, layout, "it has no bias"));
        }
        Ok(specs(biases(layout)))
    }

    fn attach(&self, layout: &Layout, _: &Weights, trainables: &Trainables) -> Result<Attachment, Error> {
        replacing(biases(layout), trainables)
    }
}

/// Weight and bias of every norm.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Norms {}

impl Method for Norms {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn label(&self) -> String {
        "Norm tuning".into()
    }

    fn options(&self) -> Value {
        json!({})
    }

    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        Ok(specs(norm_tensors(layout)))
    }

    fn attach(&self, layout: &Layout, _: &Weights, trainables: &Trainables) -> Result<Attachment, Error> {
        replacing(norm_tensors(layout), trainables)
    }
}

/// Names and lengths of the biases.
fn biases(layout: &Layout) -> impl Iterator<Item = (String, i64)> {
    let sites = layout.sites.iter().filter(|site| site.bias).map(|site| (&site.name, site.outputs));
    let norms = layout.norms.iter().filter(|norm| norm.bias).map(|norm| (&norm.name, norm.width));
    sites.chain(norms).map(|(name, length)| (format!("{name}.bias"), length))
}

fn specs(tensors: impl Iterator<Item = (String, i64)>) -> Vec<TrainableSpec> {
    tensors.map(|(name, length)| from_frozen(&name, &[length])).collect()
}

fn replacing(
    tensors: impl Iterator<Item = (String, i64)>,
    trainables: &Trainables,
) -> Result<Attachment, Error> {
    let mut attachment = Attachment::default();
    for (name, _) in tensors {
        let trained = trainables.get(&name)?;
        attachment.replaced.insert(name, trained);
    }
    Ok(attachment)
}
