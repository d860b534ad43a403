//! Small MLPs of a few hidden channels at residual branches: behind them (Houlsby's adapter, arXiv
//! 1902.00751) or beside them (AdaptFormer, arXiv 2205.13535).
//!
//! Names: `<branch>.adapter.{down,up}.{weight,bias}`. `up` starts at zero, so that the start is the frozen
//! model; Houlsby's paper has a near-zero normal there, which is this project's one departure.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Tensor;

use super::{Method, check_size};
use crate::branch::Bottleneck;
use crate::init::Init;
use crate::layout::{BranchKind, BranchSpec};
use crate::parameter::{Parameter, linear};
use crate::trainables::{Group, TrainableSpec, Trainables};
use crate::{Attachment, Error, Layout, Weights};

const UNMERGEABLE: &str = "a bottleneck has a nonlinearity that no weight of the backbone stands for";

/// Houlsby's adapter: y + up(gelu(down(y))) behind every attention and MLP.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Houlsby {
    bottleneck: i64,
}

impl Default for Houlsby {
    /// 8 hidden channels, usual on VTAB-1k.
    fn default() -> Self {
        Self { bottleneck: 8 }
    }
}

impl Method for Houlsby {
    fn name(&self) -> &'static str {
        "adapter"
    }

    fn label(&self) -> String {
        labelled("Adapter", self.bottleneck, Self::default().bottleneck)
    }

    fn options(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        let down = |_| Init::Normal { mean: 0.0, deviation: 0.01 };
        specs("adapter", self.bottleneck, layout.branches.iter(), down)
    }

    fn attach(&self, layout: &Layout, _: &Weights, trainables: &Trainables) -> Result<Attachment, Error> {
        attach(layout.branches.iter(), trainables, Placement::Behind)
    }

    fn unmergeable(&self) -> Option<&'static str> {
        Some(UNMERGEABLE)
    }
}

/// AdaptFormer: f(x) + scale * up(relu(down(x))) for every MLP f, x being the branch's input before its
/// norm, as in the authors' code.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AdaptFormer {
    bottleneck: i64,
    scale: f64,
}

impl Default for AdaptFormer {
    /// As published: 64 hidden channels, scaled by 0.1.
    fn default() -> Self {
        Self { bottleneck: 64, scale: 0.1 }
    }
}

impl AdaptFormer {
    fn branches(layout: &Layout) -> impl Iterator<Item = &BranchSpec> {
        layout.branches.iter().filter(|branch| branch.kind != BranchKind::Attention)
    }
}

impl Method for AdaptFormer {
    fn name(&self) -> &'static str {
        "adaptformer"
    }

    fn label(&self) -> String {
        labelled("AdaptFormer", self.bottleneck, Self::default().bottleneck)
    }

    fn options(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        let down = |width| Init::KaimingUniform { inputs: width };
        specs("adaptformer", self.bottleneck, Self::branches(layout), down)
    }

    fn attach(&self, layout: &Layout, _: &Weights, trainables: &Trainables) -> Result<Attachment, Error> {
        attach(Self::branches(layout), trainables, Placement::Beside { scale: self.scale })
    }

    fn unmergeable(&self) -> Option<&'static str> {
        Some(UNMERGEABLE)
    }
}

fn labelled(name: &str, bottleneck: i64, usual: i64) -> String {
    if bottleneck == usual { name.into() } else { format!("{name} {bottleneck}") }
}

fn specs<'a>(
    method: &str,
    bottleneck: i64,
    branches: impl Iterator<Item = &'a BranchSpec>,
    down: impl Fn(i64) -> Init,
) -> Result<Vec<TrainableSpec>, Error> {
    check_size(method, "bottleneck", bottleneck)?;
    let of_branch = |branch: &BranchSpec| {
        let spec = |what: &str, shape: Vec<i64>, init| TrainableSpec {
            name: format!("{}.adapter.{what}", branch.name),
            shape,
            init,
            group: Group::Method,
        };
        [
            spec("down.weight", vec![bottleneck, branch.width], down(branch.width)),
            spec("down.bias", vec![bottleneck], Init::Zeros),
            spec("up.weight", vec![branch.width, bottleneck], Init::Zeros),
            spec("up.bias", vec![branch.width], Init::Zeros),
        ]
    };
    Ok(branches.flat_map(of_branch).collect())
}

fn attach<'a>(
    branches: impl Iterator<Item = &'a BranchSpec>,
    trainables: &Trainables,
    placement: Placement,
) -> Result<Attachment, Error> {
    let mut attachment = Attachment::default();
    for branch in branches {
        let get = |what| trainables.get(&format!("{}.adapter.{what}", branch.name)).map(Parameter::Trained);
        let module = TwoLinears {
            down: (get("down.weight")?, get("down.bias")?),
            up: (get("up.weight")?, get("up.bias")?),
            placement,
        };
        attachment.branches.insert(branch.name.clone(), Rc::new(module));
    }
    Ok(attachment)
}

#[derive(Debug, Clone, Copy)]
enum Placement {
    Behind,
    Beside { scale: f64 },
}

#[derive(Debug)]
struct TwoLinears {
    down: (Parameter, Parameter),
    up: (Parameter, Parameter),
    placement: Placement,
}

impl Bottleneck for TwoLinears {
    fn adapt(&self, x: &Tensor, y: Tensor) -> Tensor {
        let down = |input: &Tensor| linear(input, &self.down.0, Some(&self.down.1));
        let up = |hidden: &Tensor| linear(hidden, &self.up.0, Some(&self.up.1));
        match self.placement {
            Placement::Behind => {
                let update = up(&down(&y).gelu("none"));
                y + update
            }
            Placement::Beside { scale } => y + up(&down(x).relu()) * scale,
        }
    }
}
