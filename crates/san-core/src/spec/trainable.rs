//! What a method trains, before it is allocated: names, shapes and starting values suffice to count and to plan.

use crate::Layout;
use crate::spec::init::Init;

/// What a trained tensor belongs to; counts and learning rates are told apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The method's own tensors.
    Method,
    /// A tensor of the backbone.
    Backbone,
    /// A tensor of a module that is trained whole in addition to a method.
    ModulesToSave,
    /// The classification head.
    Head,
}

/// A trained tensor, before it is allocated.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainableSpec {
    /// Name, unique within a run: that of the tensor it replaces, or `<site>.<what>`.
    pub name: String,
    /// Shape of one run's tensor, without the stack dimension.
    pub shape: Vec<i64>,
    /// How it starts.
    pub init: Init,
    /// What it belongs to.
    pub group: Group,
}

impl TrainableSpec {
    /// Number of elements of one run.
    pub fn count(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Whether weight decay applies: to matrices, not to biases, norms and scaling vectors (timm's
    /// `param_groups_weight_decay`).
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }
}

/// The head of a classifier, weight `[classes, features]` and bias `[classes]`; nothing for a model without.
pub fn head_specs(layout: &Layout, classes: i64) -> Vec<TrainableSpec> {
    let Some(head) = &layout.head else { return Vec::new() };
    let spec = |name, shape: Vec<i64>, init| TrainableSpec { name, shape, init, group: Group::Head };
    let [weight, bias] = head.tensors();
    vec![
        spec(weight, vec![classes, head.features], Init::TruncatedNormal { deviation: 0.02 }),
        spec(bias, vec![classes], Init::Zeros),
    ]
}
