//! Houlsby's adapter: a bottleneck after every attention and MLP (arXiv 1902.00751).

use serde::{Deserialize, Serialize};

use crate::methods::bottleneck::{Placement, UNMERGEABLE, attach, effects, specs, title_with_size};
use crate::methods::{Method, MethodInfo, parse};
use crate::spec::effects::Effects;
use crate::spec::init::Init;
use crate::spec::trainable::TrainableSpec;
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "adapter",
    label: "Adapter",
    summary: "a bottleneck after every attention and MLP",
    inference_cost: "two small matrix products per branch",
    source: "Houlsby et al., arXiv 1902.00751",
    published_as: &["Adapter", "Series"],
    parse: parse::<Houlsby>,
    from_peft: None,
};

/// Houlsby's adapter: y + up(gelu(down(y))) after every attention and MLP.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Houlsby {
    bottleneck: i64,
}

impl Default for Houlsby {
    /// 8 hidden channels, common on VTAB-1k.
    fn default() -> Self {
        Self { bottleneck: 8 }
    }
}

impl Method for Houlsby {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn title(&self) -> String {
        title_with_size("Adapter", self.bottleneck, Self::default().bottleneck)
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        let down = |_| Init::Normal { mean: 0.0, deviation: 0.01 };
        specs("adapter", self.bottleneck, model_spec.branches.iter(), down)
    }

    fn effects(&self, model_spec: &ModelSpec) -> Result<Effects, Error> {
        Ok(effects(self.bottleneck, model_spec.branches.iter(), Placement::After))
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        attach(model_spec.branches.iter(), trainables, Placement::After)
    }

    fn unmergeable(&self) -> Option<&'static str> {
        Some(UNMERGEABLE)
    }
}
