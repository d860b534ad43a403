//! Bottleneck MLPs at residual branches, shared by `adapter` and `adaptformer`.
//!
//! Names: `<branch>.adapter.{down,up}.{weight,bias}`. `up` is initialised to zero, so training starts from the
//! frozen model; this is the only departure from Houlsby's paper, which uses a near-zero normal.

use std::rc::Rc;

use tch::Tensor;

use crate::methods::check_size;
use crate::nn::branch::Bottleneck;
use crate::nn::parameter::{Parameter, linear};
use crate::spec::effects::{BranchEffect, Effects};
use crate::spec::init::Init;
use crate::spec::model::BranchSpec;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error};

/// Why these methods cannot be merged.
pub(super) const UNMERGEABLE: &str =
    "a bottleneck has a nonlinearity, which no backbone weight can represent";

/// The name, followed by the number of hidden channels unless it is the default.
pub(super) fn title_with_size(name: &str, bottleneck: i64, default: i64) -> String {
    if bottleneck == default { name.into() } else { format!("{name} {bottleneck}") }
}

/// The tensors of a bottleneck at each branch.
///
/// # Errors
/// If `bottleneck` is below 1.
pub(super) fn specs<'a>(
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

/// What the bottlenecks add to a forward pass.
pub(super) fn effects<'a>(
    bottleneck: i64,
    branches: impl Iterator<Item = &'a BranchSpec>,
    placement: Placement,
) -> Effects {
    let is_parallel = matches!(placement, Placement::Parallel { .. });
    let effect = |branch: &BranchSpec| {
        (branch.name.clone(), BranchEffect { bottleneck, width: branch.width, is_parallel })
    };
    Effects { branches: branches.map(effect).collect(), ..Effects::default() }
}

/// Attaches the bottlenecks, using the allocated tensors.
///
/// # Errors
/// If one was not allocated.
pub(super) fn attach<'a>(
    branches: impl Iterator<Item = &'a BranchSpec>,
    trainables: &Trainables,
    placement: Placement,
) -> Result<AdapterSet, Error> {
    let mut adapters = AdapterSet::default();
    for branch in branches {
        let get = |what| trainables.get(&format!("{}.adapter.{what}", branch.name)).map(Parameter::trained);
        let module = BottleneckMlp {
            down: (get("down.weight")?, get("down.bias")?),
            up: (get("up.weight")?, get("up.bias")?),
            placement,
        };
        adapters.branches.insert(branch.name.clone(), Rc::new(module));
    }
    Ok(adapters)
}

/// Where a bottleneck is attached.
#[derive(Debug, Clone, Copy)]
pub(super) enum Placement {
    /// After the branch: y + up(gelu(down(y))).
    After,
    /// In parallel to it: y + scale * up(relu(down(x))).
    Parallel {
        /// Scale of its output.
        scale: f64,
    },
}

#[derive(Debug)]
struct BottleneckMlp {
    down: (Parameter, Parameter),
    up: (Parameter, Parameter),
    placement: Placement,
}

impl Bottleneck for BottleneckMlp {
    fn adapt(&self, x: &Tensor, y: Tensor) -> Tensor {
        let down = |input: &Tensor| linear(input, &self.down.0, Some(&self.down.1));
        let up = |hidden: &Tensor| linear(hidden, &self.up.0, Some(&self.up.1));
        match self.placement {
            Placement::After => {
                let update = up(&down(&y).gelu("none"));
                y + update
            }
            Placement::Parallel { scale } => y + up(&down(x).relu()) * scale,
        }
    }
}
