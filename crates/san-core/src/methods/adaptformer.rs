//! AdaptFormer: a bottleneck in parallel to every MLP (arXiv 2205.13535).

use serde::{Deserialize, Serialize};

use crate::methods::bottleneck::{Placement, UNMERGEABLE, attach, effects, specs, title_with_size};
use crate::methods::{Method, MethodInfo, parse};
use crate::spec::effects::Effects;
use crate::spec::init::Init;
use crate::spec::model::{BranchKind, BranchSpec};
use crate::spec::trainable::TrainableSpec;
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "adaptformer",
    label: "AdaptFormer",
    summary: "a bottleneck in parallel to every MLP",
    inference_cost: "two small matrix products per block",
    source: "Chen et al., arXiv 2205.13535",
    published_as: &["AdaptFormer"],
    parse: parse::<AdaptFormer>,
    from_peft: None,
};

/// AdaptFormer: f(x) + scale * up(relu(down(x))) for every MLP f, where x is the branch's input before its
/// norm, as in the authors' code.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AdaptFormer {
    bottleneck: i64,
    scale: f64,
}

impl Default for AdaptFormer {
    /// As published: 64 hidden channels, scale 0.1.
    fn default() -> Self {
        Self { bottleneck: 64, scale: 0.1 }
    }
}

impl AdaptFormer {
    fn branches(model_spec: &ModelSpec) -> impl Iterator<Item = &BranchSpec> {
        model_spec.branches.iter().filter(|branch| branch.kind != BranchKind::Attention)
    }
}

impl Method for AdaptFormer {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn title(&self) -> String {
        title_with_size("AdaptFormer", self.bottleneck, Self::default().bottleneck)
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        let down = |width| Init::KaimingUniform { inputs: width };
        specs("adaptformer", self.bottleneck, Self::branches(model_spec), down)
    }

    fn effects(&self, model_spec: &ModelSpec) -> Result<Effects, Error> {
        Ok(effects(self.bottleneck, Self::branches(model_spec), Placement::Parallel { scale: self.scale }))
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        attach(Self::branches(model_spec), trainables, Placement::Parallel { scale: self.scale })
    }

    fn unmergeable(&self) -> Option<&'static str> {
        Some(UNMERGEABLE)
    }
}
