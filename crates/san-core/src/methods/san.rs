//! SAN: a scaling vector after every projection, propagated into the next one (arXiv 2409.06706).
//!
//! For a site with frozen W and b:  y = gamma * ((W diag(p)) x + b),  where p is the gamma of the anterior
//! site, mapped to the input width. By default nothing is detached: a gamma gets gradients from both of its
//! roles. The site scales the input and the output, or the weight, whichever is less work. Gammas are
//! initialised to 1; the norms are trained too. Names: `<site>.gamma`, and optionally `<site>.ltd_ltp`, a second
//! vector that multiplies p, and `<site>.shift`, added after gamma if the site has a bias to merge it into.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::methods::tensors::{from_frozen, norm_tensors};
use crate::methods::{Method, MethodInfo, parse};
use crate::nn::site::{Adapter, Merged, OutputChange};
use crate::spec::effects::{Effects, SiteEffect};
use crate::spec::init::Init;
use crate::spec::model::SiteSpec;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::spec::wiring::{Anterior, ChannelMap, Wiring};
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "san",
    label: "SAN",
    summary: "a scale after every projection, propagated into the next one's weights; the norms",
    inference_cost: "none when merged",
    source: "arXiv 2409.06706",
    published_as: &["SAN"],
    parse: parse::<San>,
    from_peft: None,
};

/// Which of a gamma's two roles are active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// Scales features and the next site's weights.
    #[default]
    Both,
    /// Neuron only: scales features.
    Nt,
    /// Synapse only: scales the next site's weights.
    Sp,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct San {
    mode: Mode,
    wiring: Wiring,
    /// A second learned vector of p's length that multiplies p (the authors' `LTD_LTP`).
    ltd_ltp: bool,
    /// A learned shift after gamma, as in SSF (this project's addition).
    shift: bool,
    /// Stops the gradient to a gamma through p (this project's addition).
    detach: bool,
}

impl Method for San {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn title(&self) -> String {
        let mode = match self.mode {
            Mode::Both => None,
            Mode::Nt => Some("nt"),
            Mode::Sp => Some("sp"),
        };
        let wiring = match self.wiring {
            Wiring::Authors => None,
            Wiring::AuthorsResize => Some("resized"),
            Wiring::Full => Some("full wiring"),
        };
        let options = [(self.ltd_ltp, "LTD_LTP"), (self.shift, "shift"), (self.detach, "detached")];
        let options = options.into_iter().filter_map(|(enabled, name)| enabled.then_some(name));
        let non_default: Vec<_> = mode.into_iter().chain(wiring).chain(options).collect();
        if non_default.is_empty() { "SAN".into() } else { format!("SAN ({})", non_default.join(", ")) }
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        self.check()?;
        let spec =
            |name, length, init| TrainableSpec { name, shape: vec![length], init, group: Group::Method };
        let mut specs = Vec::new();
        for site in &model_spec.sites {
            specs.push(spec(gamma(&site.name), site.outputs, Init::Ones));
            if self.shift && site.bias {
                specs.push(spec(shift(&site.name), site.outputs, Init::Zeros));
            }
            if self.ltd_ltp && self.anterior(site).is_some() {
                specs.push(spec(ltd_ltp(&site.name), site.channels(), Init::Ones));
            }
        }
        specs.extend(norm_tensors(model_spec).map(|(name, width)| from_frozen(&name, &[width])));
        Ok(specs)
    }

    fn effects(&self, model_spec: &ModelSpec) -> Result<Effects, Error> {
        let effect = |site: &SiteSpec| SiteEffect {
            input_scale: self.anterior(site).is_some(),
            output_scale: self.mode != Mode::Sp,
            shift: self.shift && site.bias,
            update: None,
        };
        let sites = model_spec.sites.iter().map(|site| (site.name.clone(), effect(site)));
        Ok(Effects { sites: sites.collect(), ..Effects::default() })
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        let mut adapters = AdapterSet::default();
        for site in &model_spec.sites {
            let own = (self.mode != Mode::Sp).then(|| trainables.get(&gamma(&site.name))).transpose()?;
            let shift = (self.shift && site.bias).then(|| trainables.get(&shift(&site.name))).transpose()?;
            let propagated = self
                .anterior(site)
                .map(|anterior| self.propagated(site, anterior, trainables))
                .transpose()?;
            adapters.sites.insert(site.name.clone(), Rc::new(Scaling { own, shift, propagated }));
        }
        for (name, _) in norm_tensors(model_spec) {
            let trained = trainables.get(&name)?;
            adapters.replaced.insert(name, trained);
        }
        Ok(adapters)
    }
}

impl San {
    fn check(&self) -> Result<(), Error> {
        let reason = match self.mode {
            Mode::Nt if self.ltd_ltp || self.detach => "`ltd_ltp` and `detach` have no effect in mode `nt`",
            _ => return Ok(()),
        };
        Err(Error::BadOption { method: "san".into(), reason: reason.into() })
    }

    fn anterior<'a>(&self, site: &'a SiteSpec) -> Option<&'a Anterior> {
        site.anteriors.under(self.wiring).filter(|_| self.mode != Mode::Nt)
    }

    fn propagated(
        &self,
        site: &SiteSpec,
        anterior: &Anterior,
        trainables: &Trainables,
    ) -> Result<Propagated, Error> {
        Ok(Propagated {
            source: trainables.get(&gamma(&anterior.site))?,
            map: anterior.map,
            channels: site.channels(),
            detach: self.detach,
            factor: self.ltd_ltp.then(|| trainables.get(&ltd_ltp(&site.name))).transpose()?,
        })
    }
}

fn ltd_ltp(site: &str) -> String {
    format!("{site}.ltd_ltp")
}

fn shift(site: &str) -> String {
    format!("{site}.shift")
}

fn gamma(site: &str) -> String {
    format!("{site}.gamma")
}

/// The anterior site's gamma as applied to another site's input.
#[derive(Debug)]
struct Propagated {
    source: Tensor,
    map: ChannelMap,
    channels: i64,
    detach: bool,
    factor: Option<Tensor>,
}

impl Propagated {
    /// p, `[K, channels]`.
    fn vector(&self) -> Tensor {
        let source = if self.detach { self.source.detach() } else { self.source.shallow_clone() };
        let p = self.map.apply(&source, self.channels);
        match &self.factor {
            Some(factor) => p * factor,
            None => p,
        }
    }
}

/// What SAN does at one site.
#[derive(Debug)]
struct Scaling {
    own: Option<Tensor>,
    shift: Option<Tensor>,
    propagated: Option<Propagated>,
}

impl Adapter for Scaling {
    fn input_scale(&self) -> Option<Tensor> {
        self.propagated.as_ref().map(Propagated::vector)
    }

    fn output_change(&self) -> Option<OutputChange> {
        let copy = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Some(OutputChange { scale: copy(&self.own), shift: copy(&self.shift), ..OutputChange::default() })
    }

    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error> {
        let (weight, bias) = match &self.own {
            Some(gamma) => {
                let gamma = gamma.f_get(run)?;
                (weight * gamma.unsqueeze(1), bias.map(|bias| bias * gamma))
            }
            None => (weight, bias),
        };
        Ok(match &self.shift {
            Some(shift) => {
                let shift = shift.f_get(run)?;
                (weight, bias.map(|bias| bias + shift))
            }
            None => (weight, bias),
        })
    }
}
