//! SAN on a host method: the host's scaling of a projection's rows is propagated into the next projection.
//!
//! The authors call SAN a plug-in for LoRA and DoRA that adds no parameters; how an update yields a scaling
//! vector is this project's interpretation (docs/method.md, section 3). The host's update is unchanged (its
//! rows are already scaled); the anterior site's scaling vector p multiplies the input, W diag(p).

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::methods::{Method, MethodInfo};
use crate::nn::site::{Adapter, Merged, OutputChange};
use crate::spec::effects::Effects;
use crate::spec::trainable::TrainableSpec;
use crate::spec::wiring::{ChannelMap, Wiring};
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// The factor by which a method scales the rows of a projection: `[K, outputs]`, initially 1.
pub(super) trait Scaling: std::fmt::Debug {
    /// The scaling vector, with gradient.
    fn vector(&self) -> Tensor;
}

/// A method whose update yields a scaling vector.
pub(super) trait Host: Method + Default {
    /// Registry entry of SAN over this host.
    const SAN: &'static MethodInfo;

    /// The sites that have a scaling vector.
    fn scaled(&self, model_spec: &ModelSpec) -> Result<Vec<String>, Error>;

    /// The scaling vectors, by site.
    fn scalings(
        &self,
        model_spec: &ModelSpec,
        weights: &Weights,
        trainables: &Trainables,
    ) -> Result<BTreeMap<String, Rc<dyn Scaling>>, Error>;
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    bound(serialize = "H: Serialize", deserialize = "H: Host + DeserializeOwned")
)]
pub(super) struct SanOver<H> {
    host: H,
    wiring: Wiring,
    /// Stops the gradient to the host through p.
    detach: bool,
}

impl<H: Host> Default for SanOver<H> {
    /// Every site uses the site that feeds it; under the authors' wiring, a host on queries and values would
    /// propagate nothing.
    fn default() -> Self {
        Self { host: H::default(), wiring: Wiring::Full, detach: false }
    }
}

impl<H: Host + Serialize> Method for SanOver<H> {
    fn info(&self) -> &'static MethodInfo {
        H::SAN
    }

    fn inner(&self) -> Option<&dyn Method> {
        Some(&self.host)
    }

    fn title(&self) -> String {
        let wiring = match self.wiring {
            Wiring::Full => "",
            Wiring::Authors => " (authors' wiring)",
            Wiring::AuthorsResize => " (resized wiring)",
        };
        let detached = if self.detach { " (detached)" } else { "" };
        format!("SAN-{}{wiring}{detached}", self.host.title())
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        let specs = self.host.trainables(model_spec)?;
        let scaled = self.host.scaled(model_spec)?;
        let mut anteriors = model_spec.sites.iter().filter_map(|site| site.anteriors.under(self.wiring));
        if !anteriors.any(|anterior| scaled.contains(&anterior.site)) {
            return Err(Error::Incompatible {
                method: self.name().into(),
                backbone: model_spec.backbone.clone(),
                reason:
                    "no projection has an anterior that the host scales; choose other `targets` or `wiring: full`"
                        .into(),
            });
        }
        Ok(specs)
    }

    fn effects(&self, model_spec: &ModelSpec) -> Result<Effects, Error> {
        let mut effects = self.host.effects(model_spec)?;
        let scaled = self.host.scaled(model_spec)?;
        for site in &model_spec.sites {
            let anterior = site.anteriors.under(self.wiring);
            if anterior.is_some_and(|anterior| scaled.contains(&anterior.site)) {
                effects.sites.entry(site.name.clone()).or_default().input_scale = true;
            }
        }
        Ok(effects)
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        weights: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        let mut adapters = self.host.attach(model_spec, weights, trainables)?;
        let scalings = self.host.scalings(model_spec, weights, trainables)?;
        for site in &model_spec.sites {
            let Some(anterior) = site.anteriors.under(self.wiring) else { continue };
            let Some(scaling) = scalings.get(&anterior.site) else { continue };
            let adapter = HostWithInputScale {
                host: adapters.sites.get(&site.name).cloned(),
                scaling: scaling.clone(),
                map: anterior.map,
                channels: site.channels(),
                detach: self.detach,
            };
            adapters.sites.insert(site.name.clone(), Rc::new(adapter));
        }
        Ok(adapters)
    }
}

/// The host at one site, with its input scaled by the anterior site's vector.
#[derive(Debug)]
struct HostWithInputScale {
    host: Option<Rc<dyn Adapter>>,
    scaling: Rc<dyn Scaling>,
    map: ChannelMap,
    channels: i64,
    detach: bool,
}

impl Adapter for HostWithInputScale {
    fn input_scale(&self) -> Option<Tensor> {
        let vector = self.scaling.vector();
        let vector = if self.detach { vector.detach() } else { vector };
        Some(self.map.apply(&vector, self.channels))
    }

    fn output_change(&self) -> Option<OutputChange> {
        match &self.host {
            Some(host) => host.output_change(),
            None => Some(OutputChange::default()),
        }
    }

    fn adapt(&self, x: &Tensor, y: Tensor) -> Tensor {
        match &self.host {
            Some(host) => host.adapt(x, y),
            None => y,
        }
    }

    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error> {
        match &self.host {
            Some(host) => host.merge(run, weight, bias),
            None => Ok((weight, bias)),
        }
    }
}
