//! SSF: a scale and a shift after every projection and every norm (arXiv 2210.08823).
//!
//! A projection or norm without bias gets no shift, as no checkpoint weight could absorb it (Swin's reductions,
//! all of LLaMA; the paper does add one there). As published, scales are initialised from N(1, 0.02) and shifts
//! from N(0, 0.02), so at the first step the model differs slightly from the frozen one. Names: `<site or
//! norm>.ssf_scale` and `.ssf_shift`.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::methods::host::{Host, Scaling};
use crate::methods::san_ssf;
use crate::methods::{Method, MethodInfo, parse};
use crate::nn::site::{Adapter, Merged, NormAffine, OutputChange};
use crate::spec::effects::{Effects, SiteEffect};
use crate::spec::init::Init;
use crate::spec::model::SiteSpec;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "ssf",
    label: "SSF",
    summary: "a scale and a shift after every projection and norm",
    inference_cost: "none when merged",
    source: "Lian et al., arXiv 2210.08823",
    published_as: &["SSF"],
    parse: parse::<Ssf>,
    from_peft: None,
};

const DEVIATION: f64 = 0.02;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Ssf {}

impl Method for Ssf {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        let spec = |name: &str, what, width, mean| TrainableSpec {
            name: format!("{name}.{what}"),
            shape: vec![width],
            init: Init::Normal { mean, deviation: DEVIATION },
            group: Group::Method,
        };
        let sites = model_spec.sites.iter().map(|site| (&site.name, site.outputs, site.bias));
        let norms = model_spec.norms.iter().map(|norm| (&norm.name, norm.width, norm.bias));
        let pair = |(name, width, shifted): (&String, i64, bool)| {
            let scale = spec(name, "ssf_scale", width, 1.0);
            std::iter::once(scale).chain(shifted.then(|| spec(name, "ssf_shift", width, 0.0)))
        };
        Ok(sites.chain(norms).flat_map(pair).collect())
    }

    fn effects(&self, model_spec: &ModelSpec) -> Result<Effects, Error> {
        let effect =
            |site: &SiteSpec| SiteEffect { output_scale: true, shift: site.bias, ..SiteEffect::default() };
        Ok(Effects {
            sites: model_spec.sites.iter().map(|site| (site.name.clone(), effect(site))).collect(),
            norms: model_spec.norms.iter().map(|norm| norm.name.clone()).collect(),
            ..Effects::default()
        })
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        let mut adapters = AdapterSet::default();
        let get = |name: &str, what| trainables.get(&format!("{name}.{what}"));
        for site in &model_spec.sites {
            let scale = get(&site.name, "ssf_scale")?;
            let shift = site.bias.then(|| get(&site.name, "ssf_shift")).transpose()?;
            adapters.sites.insert(site.name.clone(), Rc::new(ScaleShift { scale, shift }));
        }
        for norm in &model_spec.norms {
            let scale = get(&norm.name, "ssf_scale")?;
            let shift = norm.bias.then(|| get(&norm.name, "ssf_shift")).transpose()?;
            let affine = NormAffine { scale, shift };
            adapters.norms.insert(norm.name.clone(), Rc::new(affine));
        }
        Ok(adapters)
    }
}

impl Host for Ssf {
    const SAN: &'static MethodInfo = &san_ssf::INFO;

    fn scaled(&self, model_spec: &ModelSpec) -> Result<Vec<String>, Error> {
        Ok(model_spec.sites.iter().map(|site| site.name.clone()).collect())
    }

    /// The scale of each site.
    fn scalings(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
    ) -> Result<BTreeMap<String, Rc<dyn Scaling>>, Error> {
        let scaling = |site: &SiteSpec| {
            let vector = trainables.get(&format!("{}.ssf_scale", site.name))?;
            Ok((site.name.clone(), Rc::new(Plain(vector)) as Rc<dyn Scaling>))
        };
        model_spec.sites.iter().map(scaling).collect()
    }
}

#[derive(Debug)]
struct Plain(Tensor);

impl Scaling for Plain {
    fn vector(&self) -> Tensor {
        self.0.shallow_clone()
    }
}

#[derive(Debug)]
struct ScaleShift {
    scale: Tensor,
    shift: Option<Tensor>,
}

impl Adapter for ScaleShift {
    fn output_change(&self) -> Option<OutputChange> {
        let shift = self.shift.as_ref().map(Tensor::shallow_clone);
        Some(OutputChange { scale: Some(self.scale.shallow_clone()), shift, ..OutputChange::default() })
    }

    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error> {
        let scale = self.scale.f_get(run)?;
        let shift = self.shift.as_ref().map(|shift| shift.f_get(run)).transpose()?;
        let bias = bias.map(|bias| bias * &scale);
        let bias = match (bias, shift) {
            (Some(bias), Some(shift)) => Some(bias + shift),
            (bias, _) => bias,
        };
        Ok((weight * scale.unsqueeze(1), bias))
    }
}
