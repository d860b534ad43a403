//! SAN: a scaling vector behind every projection, propagated into the next one (arXiv 2409.06706).
//!
//! For a site with frozen W and b:  y = gamma * ((W diag(p)) x + b),  p being the gamma of the
//! anterior site, mapped to the inputs' length. Nothing is detached: a gamma learns from both of its
//! roles. W diag(p) is never built, the input is scaled instead. Gammas start at 1; the norms are
//! trained besides. Names: `<site>.gamma`.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Tensor;

use super::Method;
use super::whole::from_frozen;
use crate::layout::{ChannelMap, Wiring};
use crate::site::{Adapter, Merged, rescale};
use crate::trainables::{Group, Init, TrainableSpec, Trainables};
use crate::{Attachment, Error, Layout, Weights};

/// Which of its two roles a gamma plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
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
}

impl Method for San {
    fn name(&self) -> &'static str {
        "san"
    }

    fn label(&self) -> String {
        let mode = match self.mode {
            Mode::Both => None,
            Mode::Nt => Some("nt"),
            Mode::Sp => Some("sp"),
        };
        let wiring = (self.wiring == Wiring::Full).then_some("full wiring");
        let unusual: Vec<_> = mode.into_iter().chain(wiring).collect();
        if unusual.is_empty() { "SAN".into() } else { format!("SAN ({})", unusual.join(", ")) }
    }

    fn options(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        let gammas = layout.sites.iter().map(|site| TrainableSpec {
            name: gamma(&site.name),
            shape: vec![site.outputs],
            init: Init::Ones,
            group: Group::Method,
        });
        let norms = layout.norms.iter().flat_map(|norm| {
            ["weight", "bias"].map(|part| from_frozen(&format!("{}.{part}", norm.name), &[norm.width]))
        });
        Ok(gammas.chain(norms).collect())
    }

    fn attach(&self, layout: &Layout, _: &Weights, trainables: &Trainables) -> Result<Attachment, Error> {
        let mut attachment = Attachment::default();
        for site in &layout.sites {
            let own = (self.mode != Mode::Sp).then(|| trainables.get(&gamma(&site.name))).transpose()?;
            let anterior = site.anteriors.under(self.wiring).filter(|_| self.mode != Mode::Nt);
            let propagated = anterior
                .map(|anterior| {
                    let source = trainables.get(&gamma(&anterior.site))?;
                    Ok::<_, Error>(Propagated { source, map: anterior.map, channels: site.channels() })
                })
                .transpose()?;
            attachment.sites.insert(site.name.clone(), Rc::new(Scaling { own, propagated }));
        }
        for norm in &layout.norms {
            for part in ["weight", "bias"] {
                let name = format!("{}.{part}", norm.name);
                let trained = trainables.get(&name)?;
                attachment.replaced.insert(name, trained);
            }
        }
        Ok(attachment)
    }
}

fn gamma(site: &str) -> String {
    format!("{site}.gamma")
}

/// The gamma of the anterior site as another site's input reads it.
#[derive(Debug)]
struct Propagated {
    source: Tensor,
    map: ChannelMap,
    channels: i64,
}

impl Propagated {
    /// p, `[K, channels]`.
    fn vector(&self) -> Tensor {
        self.map.read(&self.source, self.channels)
    }
}

/// What SAN does at one site.
#[derive(Debug)]
struct Scaling {
    own: Option<Tensor>,
    propagated: Option<Propagated>,
}

impl Adapter for Scaling {
    fn input_scale(&self) -> Option<Tensor> {
        self.propagated.as_ref().map(Propagated::vector)
    }

    fn adapt(&self, _: &Tensor, y: Tensor) -> Tensor {
        match &self.own {
            Some(gamma) => rescale(&y, gamma, None),
            None => y,
        }
    }

    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error> {
        Ok(match &self.own {
            Some(gamma) => {
                let gamma = gamma.f_get(run)?;
                (weight * gamma.unsqueeze(1), bias.map(|bias| bias * gamma))
            }
            None => (weight, bias),
        })
    }
}
