//! What a method trains, before allocation: names, shapes and initial values are enough for counting and
//! planning.

use crate::ModelSpec;
use crate::spec::init::Init;

/// The tensors of image models that timm does not decay although they are not vectors: `no_weight_decay` of its ViT and
/// its Swin.
const NOT_DECAYED: [&str; 4] = ["cls_token", "dist_token", "pos_embed", "relative_position_bias_table"];

/// What a trained tensor belongs to; used for separate parameter counts and learning rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The method's own tensors.
    Method,
    /// A tensor of the backbone.
    Backbone,
    /// A tensor of a fully trained module (`modules_to_save`).
    ModulesToSave,
    /// The classification head.
    Head,
}

/// A trained tensor before allocation.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainableSpec {
    /// Name, unique within a run: that of the tensor it replaces, or `<site>.<suffix>`.
    pub name: String,
    /// Shape for one run, without the stack dimension.
    pub shape: Vec<i64>,
    /// How it is initialised.
    pub init: Init,
    /// What it belongs to.
    pub group: Group,
}

impl TrainableSpec {
    /// Number of elements per run.
    pub fn count(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Whether weight decay applies: not to vectors (biases, norms, scales) nor to class tokens, position embeddings
    /// and position bias tables (timm's `param_groups_weight_decay`).
    pub fn decays(&self) -> bool {
        let last = self.name.rsplit('.').next().unwrap_or_default();
        self.shape.len() > 1 && !NOT_DECAYED.contains(&last)
    }
}

/// The classification head, weight `[classes, features]` and bias `[classes]`; empty for a model without one.
pub(crate) fn head_specs(model_spec: &ModelSpec, classes: i64) -> Vec<TrainableSpec> {
    let Some(head) = &model_spec.head else { return Vec::new() };
    let spec = |name, shape: Vec<i64>, init| TrainableSpec { name, shape, init, group: Group::Head };
    let [weight, bias] = head.tensors();
    vec![
        spec(weight, vec![classes, head.features], Init::TruncatedNormal { deviation: 0.02 }),
        spec(bias, vec![classes], Init::Zeros),
    ]
}
