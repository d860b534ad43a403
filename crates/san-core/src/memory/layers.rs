//! The counterparts of `nn` on a tape: norms, residual branches, and the operations between them; sites are in `sites.rs`.

use std::collections::BTreeSet;

use crate::memory::tape::{Operation, Tape, Value};
use crate::spec::effects::{BranchEffect, Effects};
use crate::spec::model::{NormSpec, SiteSpec};

/// Bytes of a number in f32.
pub(super) const F32: i64 = 4;

/// What a forward pass depends on, apart from the model.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Number of runs that are trained together.
    pub stack: i64,
    /// Bytes of an element of frozen weights and activations.
    pub width: i64,
    /// Bytes of an element of trained tensors and their gradients.
    pub trained_width: i64,
    /// Whether it is computed on a GPU, whose kernels fuse more.
    pub on_gpu: bool,
    /// What the method adds to the forward pass.
    pub effects: Effects,
    /// Names of all trained tensors.
    pub trained: BTreeSet<String>,
}

/// What of a norm's affine map is trained.
#[derive(Debug, Clone, Copy)]
struct Trains {
    scale: bool,
    shift: bool,
}

impl Trains {
    /// The same with a trained scale after it, if `scales`.
    fn or(self, scales: bool) -> Self {
        Self { scale: self.scale || scales, shift: self.shift || scales }
    }
}

/// The operations of a model's forward pass.
#[derive(Debug)]
pub struct Layers {
    /// What is in memory.
    pub tape: Tape,
    /// What the operations depend on.
    pub setting: Setting,
}

impl Layers {
    /// An empty tape.
    pub fn new(setting: Setting) -> Self {
        Self { tape: Tape::default(), setting }
    }

    /// Whether a tensor of the model is trained.
    pub fn is_trained(&self, name: &str) -> bool {
        self.setting.trained.contains(name)
    }

    /// Whether a tensor is trained and each run has its own.
    pub(super) fn is_stacked(&self, name: &str) -> bool {
        self.setting.stack > 1 && self.is_trained(name)
    }

    /// Bytes of the gradient of a tensor of `count` elements per run, if it is trained.
    pub fn gradient_of(&self, name: &str, count: i64) -> i64 {
        if self.is_trained(name) { self.setting.trained_width * self.setting.stack * count } else { 0 }
    }

    /// Converts to a dtype of `width` bytes per element.
    pub fn cast(&self, x: &Value, width: i64) -> Value {
        if x.width == width {
            return x.clone();
        }
        self.tape.apply(Operation { inputs: &[x], elements: x.elements, width, ..Operation::default() })
    }

    /// The same elements, or those that are left and right of new ones, in another tensor.
    pub fn copied(&self, x: &Value, elements: i64) -> Value {
        self.tape.apply(Operation { inputs: &[x], elements, width: x.width, ..Operation::default() })
    }

    /// An activation function, or any other function of each element that keeps its input.
    pub fn function(&self, x: &Value) -> Value {
        let Value { elements, width, .. } = *x;
        self.tape.apply(Operation { inputs: &[x], elements, width, keeps: &[x], ..Operation::default() })
    }

    /// Scaled dot-product attention by a kernel that does not write the scores: keeps its inputs, its result and a number
    /// for each query of each head. `inputs` is one tensor of queries, keys and values, or three.
    pub fn attention(&self, inputs: &[&Value], elements: i64, queries: i64) -> Value {
        let width = inputs[0].width;
        // The gradients of the parts of one tensor are stacked; on a GPU those of queries are summed in f32.
        let stacked = if inputs.len() == 1 { inputs[0].bytes() } else { 0 };
        let sums = if self.setting.on_gpu && width < F32 { F32 * elements } else { 0 };
        self.tape.apply(Operation {
            inputs,
            elements,
            width,
            keeps: inputs,
            keeps_result: true,
            keeps_bytes: F32 * queries,
            backward: stacked + sums,
            ..Operation::default()
        })
    }

    /// Self-attention of the first `queries` of all tokens, from queries, keys and values in one tensor.
    pub fn self_attention(&self, qkv: &Value, [sequences, tokens, queries]: [i64; 3], heads: i64) -> Value {
        let width = qkv.elements / (3 * sequences * tokens);
        let elements = sequences * queries * width;
        let is_plain = !self.setting.on_gpu && qkv.width == F32;
        let lanes = torch_ops::short_attention_lanes(tokens, width / heads).filter(|_| is_plain);
        let Some(lanes) = lanes else {
            return self.attention(&[qkv], elements, sequences * queries * heads);
        };
        self.tape.apply(Operation {
            inputs: &[qkv],
            elements,
            width: qkv.width,
            keeps: &[qkv],
            keeps_bytes: F32 * sequences * heads * queries * lanes,
            ..Operation::default()
        })
    }

    /// The input of a block with prompts in addition, if the method inserts them: the first `tokens` of each sequence are
    /// kept.
    pub fn with_prompts(&self, block: &str, x: Value, sequences: i64, tokens: i64, width: i64) -> Value {
        let Some(prompts) = self.setting.effects.prompts.get(block) else { return x };
        let trained = F32 * self.setting.stack * prompts * width;
        let elements = sequences * (tokens + prompts) * width;
        self.tape.apply(Operation {
            inputs: &[&x],
            elements,
            width: x.width,
            trained,
            ..Operation::default()
        })
    }

    /// x + y.
    pub fn add(&self, x: &Value, y: &Value) -> Value {
        let Value { elements, width, .. } = *x;
        self.tape.apply(Operation { inputs: &[x, y], elements, width, passed_on: 2, ..Operation::default() })
    }

    /// x + a tensor without gradient, or with a small one.
    pub fn shifted(&self, x: &Value, trained: i64) -> Value {
        let Value { elements, width, .. } = *x;
        self.tape.apply(Operation {
            inputs: &[x],
            elements,
            width,
            passed_on: 1,
            trained,
            ..Operation::default()
        })
    }

    /// x * y.
    pub fn multiply(&self, x: &Value, y: &Value) -> Value {
        let Value { elements, width, .. } = *x;
        self.tape.apply(Operation {
            inputs: &[x, y],
            elements,
            width,
            keeps: &[x, y],
            ..Operation::default()
        })
    }

    /// x scaled per channel by a vector that is trained, directly or through what it is computed from: its gradient needs x,
    /// and a product of x's size.
    pub(super) fn scaled(&self, x: &Value) -> Value {
        let Value { elements, width, .. } = *x;
        self.tape.apply(Operation {
            inputs: &[x],
            elements,
            width,
            keeps: &[x],
            backward: x.bytes(),
            trained: F32,
            ..Operation::default()
        })
    }

    /// x scaled per channel by the model's tensor `name`, which may be trained.
    pub fn scaled_by(&self, x: &Value, name: &str) -> Value {
        if self.is_trained(name) { self.scaled(x) } else { self.copied(x, x.elements) }
    }

    /// A product with a matrix `[outputs, inputs]` that is the model's tensor `name`, with a bias if `bias`.
    pub fn linear(&self, x: &Value, name: &str, [outputs, inputs]: [i64; 2], bias: bool) -> Value {
        let stack = self.setting.stack;
        let trains = self.is_trained(name);
        // A trained tensor is used in the dtype of the activations.
        let cast = if trains && x.width != self.setting.trained_width {
            stack * outputs * inputs * x.width
        } else {
            0
        };
        let kept = [x];
        let y = self.tape.apply(Operation {
            inputs: &[x],
            elements: x.elements / inputs * outputs,
            width: x.width,
            keeps: if trains { &kept } else { &[] },
            keeps_bytes: if x.has_gradient { cast } else { 0 },
            forward: if x.has_gradient { 0 } else { cast },
            backward: cast,
            trained: self.gradient_of(name, outputs * inputs),
            ..Operation::default()
        });
        let bias_name = name.strip_suffix("weight").map(|site| format!("{site}bias")).unwrap_or_default();
        match (bias && self.is_trained(&bias_name), stack) {
            (false, _) => y,
            (true, 1) => self.with_trained_bias(y),
            (true, _) => self.shifted(&y, F32 * stack * outputs),
        }
    }

    /// A trained bias is part of the product, but gives the result a gradient.
    fn with_trained_bias(&self, y: Value) -> Value {
        if y.has_gradient {
            return y;
        }
        let (elements, width) = (y.elements, y.width);
        drop(y);
        self.tape.apply(Operation { elements, width, trained: F32, ..Operation::default() })
    }

    /// A norm, computed with its affine map.
    fn fused_norm(&self, norm: &NormSpec, x: &Value, trains: bool) -> Value {
        let Value { elements, width, .. } = *x;
        let rows = elements / norm.width;
        let operation = Operation {
            inputs: &[x],
            elements,
            width,
            keeps: &[x],
            trained: if trains { 2 * F32 * self.setting.stack * norm.width } else { 0 },
            ..Operation::default()
        };
        if norm.bias || self.setting.on_gpu {
            return self.tape.apply(Operation { keeps_bytes: 2 * F32 * rows, ..operation });
        }
        // On a processor libtorch computes an RMS norm from simple operations, in f32.
        let in_f32 = if width < F32 { F32 * elements } else { 0 };
        let normal = if trains { F32 * elements } else { 0 };
        self.tape.apply(Operation {
            keeps_bytes: F32 * rows + in_f32 + normal,
            forward: F32 * elements,
            backward: 2 * F32 * elements,
            ..operation
        })
    }

    /// A norm of one run's affine map, or of each run's.
    fn any_norm(&self, norm: &NormSpec, x: &Value, trains: Trains) -> Value {
        if self.setting.stack == 1 || !(trains.scale || trains.shift) {
            return self.fused_norm(norm, x, trains.scale || trains.shift);
        }
        let normal = self.fused_norm(norm, x, false);
        let scaled = if trains.scale { self.scaled(&normal) } else { self.copied(&normal, x.elements) };
        if norm.bias { self.shifted(&scaled, F32) } else { scaled }
    }

    /// What of a norm's affine map is trained, by itself or by what follows it.
    fn trains(&self, norm: &NormSpec) -> Trains {
        let is_followed = self.setting.effects.norms.contains(&norm.name);
        Trains {
            scale: is_followed || self.is_trained(&format!("{}.weight", norm.name)),
            shift: is_followed || self.is_trained(&format!("{}.bias", norm.name)),
        }
    }

    /// A norm; the counterpart of `Norm::forward`.
    pub fn norm(&self, norm: &NormSpec, x: &Value) -> Value {
        self.any_norm(norm, x, self.trains(norm))
    }

    /// A norm, scaled for a site; the counterpart of `Norm::forward_for`.
    pub fn norm_for(&self, norm: &NormSpec, x: &Value, site: &SiteSpec) -> Value {
        self.any_norm(norm, x, self.trains(norm).or(self.effect(site).input_scale))
    }

    /// A norm and the sites after it; the counterpart of `Norm::then_each`.
    pub fn norm_then(&self, norm: &NormSpec, x: &Value, sites: &[&SiteSpec]) -> Vec<Value> {
        let (trains, is_single) = (self.trains(norm), self.setting.stack == 1);
        let scales = |site: &SiteSpec| self.effect(site).input_scale;
        if !sites.iter().any(|site| scales(site)) && (is_single || !trains.scale) {
            let x = self.any_norm(norm, x, trains);
            return sites.iter().map(|site| self.project(site, &x)).collect();
        }
        let mut normal = None;
        let each = sites.iter().map(|site| {
            let trains = trains.or(scales(site));
            if is_single || !trains.scale {
                return self.project(site, &self.any_norm(norm, x, trains));
            }
            let normal = normal.get_or_insert_with(|| self.fused_norm(norm, x, false));
            self.project_affine(site, normal, norm.bias)
        });
        each.collect()
    }

    /// x + f(x) with what a method adds to the branch; the counterpart of `Branch::add`.
    pub fn branch(&self, name: &str, x: &Value, y: Value) -> Value {
        let y = match self.setting.effects.branches.get(name) {
            Some(&effect) => self.bottleneck(name, effect, x, y),
            None => y,
        };
        self.add(x, &y)
    }

    fn bottleneck(&self, branch: &str, effect: BranchEffect, x: &Value, y: Value) -> Value {
        let BranchEffect { bottleneck, width, is_parallel } = effect;
        let matrix = |what: &str| format!("{branch}.adapter.{what}.weight");
        let input = if is_parallel { x } else { &y };
        let hidden = self.function(&self.linear(input, &matrix("down"), [bottleneck, width], true));
        let update = self.linear(&hidden, &matrix("up"), [width, bottleneck], true);
        // Parallel ones have a factor.
        let update = if is_parallel { self.copied(&update, update.elements) } else { update };
        self.add(&y, &update)
    }
}
