//! What a projection keeps, by what a method does there: the counterpart of `nn::site::Site` and of the methods' adapters.

use crate::memory::layers::{F32, Layers};
use crate::memory::tape::{Operation, Value};
use crate::spec::effects::{SiteEffect, Update};
use crate::spec::model::{Projection, SiteSpec};

impl Layers {
    /// What the method does at a site.
    pub(super) fn effect(&self, site: &SiteSpec) -> SiteEffect {
        self.setting.effects.sites.get(&site.name).cloned().unwrap_or_default()
    }

    /// A projection of an input that is not scaled yet; the counterpart of `Site::forward`.
    pub fn forward(&self, site: &SiteSpec, x: &Value) -> Value {
        let effect = self.effect(site);
        self.adapted(site, x, effect.input_scale, &effect)
    }

    /// A projection of an input that a norm has scaled already; the counterpart of `Site::project`.
    pub fn project(&self, site: &SiteSpec, x: &Value) -> Value {
        self.adapted(site, x, false, &self.effect(site))
    }

    /// A projection of a norm's result without its affine map, which each run has its own of.
    pub(super) fn project_affine(&self, site: &SiteSpec, normal: &Value, has_bias: bool) -> Value {
        let effect = self.effect(site);
        let linear = site.projection == Projection::Linear && !self.is_trained(&weight(site));
        if linear && let Some(y) = self.in_weights(site, normal, true, &effect) {
            return y;
        }
        let scaled = self.scaled(normal);
        let scaled = if has_bias { self.shifted(&scaled, F32) } else { scaled };
        self.adapted(site, &scaled, false, &effect)
    }

    fn adapted(&self, site: &SiteSpec, x: &Value, p: bool, effect: &SiteEffect) -> Value {
        // Images enter in f32.
        let x = self.cast(x, self.setting.width);
        if let Some(y) = self.in_weights(site, &x, p, effect) {
            return y;
        }
        let x = if p { self.scaled(&x) } else { x };
        let x = match site.projection {
            Projection::Patches { .. } => self.copied(&x, x.elements),
            _ => x,
        };
        let y = match site.projection {
            Projection::Depthwise { .. } => self.depthwise(site, &x),
            _ => self.linear(&x, &weight(site), [site.outputs, site.inputs], site.bias),
        };
        match &effect.update {
            Some(update) => self.updated(site, update, &x, y),
            None => {
                let y = if effect.output_scale { self.scaled(&y) } else { y };
                if effect.shift { self.shifted(&y, F32) } else { y }
            }
        }
    }

    /// `Site::in_weights`: keeps the scaled weight, in addition to what the gradients of scales and factors need.
    fn in_weights(&self, site: &SiteSpec, x: &Value, p: bool, effect: &SiteEffect) -> Option<Value> {
        let SiteSpec { inputs, outputs, .. } = *site;
        let (ranks, scale) = match effect.update {
            None => (0, effect.output_scale),
            Some(Update::LowRank { ranks, is_rescaled, has_dropout: false }) => (ranks, is_rescaled),
            Some(_) => return None,
        };
        let bias_is_trained = self.is_trained(&format!("{}.bias", site.name));
        if !(p || scale || ranks > 0) || self.is_trained(&weight(site)) || bias_is_trained {
            return None;
        }
        let is_patches = match site.projection {
            Projection::Linear => false,
            Projection::Patches { .. } if !p => true,
            _ => return None,
        };
        let stack = self.setting.stack;
        let rows = x.elements / inputs;
        let channels = if p { inputs } else { 0 } + if scale { outputs } else { 0 };
        if channels > 0 && rows / stack * channels < outputs * inputs {
            return None;
        }
        let x = if is_patches { self.copied(x, x.elements) } else { x.clone() };
        let matrices = if channels > 0 { stack * outputs * inputs } else { 0 };
        // Computed in f32, factor by factor.
        let factors = i64::from(p) + i64::from(scale) - i64::from(x.width == F32);
        let elements = rows * outputs;
        // A gradient of p needs the input's gradient; products of activations are summed as they are computed only on a
        // processor in f32.
        let unused_gradient = if p && !x.has_gradient { x.bytes() } else { 0 };
        // A processor sums products of bf16 numbers in f32.
        let width = if self.setting.on_gpu { x.width } else { F32 };
        let product = match (self.setting.on_gpu || x.width < F32, p, scale) {
            (false, ..) | (true, false, false) => 0,
            (true, true, scale) => width * x.elements.max(if scale { elements } else { 0 }),
            (true, false, true) => elements * width,
        };
        let has_matrices_of_runs = matrices > 0 && stack > 1;
        let parts = if has_matrices_of_runs && !self.setting.on_gpu { elements * x.width } else { 0 };
        // Both factors, and A x.
        let of_factors = stack * ranks * (inputs + outputs);
        let converted = if channels > 0 || x.width < F32 { of_factors * x.width } else { 0 };
        let hidden = rows * ranks * x.width;
        let inputs_kept = [&x];
        Some(self.tape.apply(Operation {
            inputs: &[&x],
            elements,
            width: x.width,
            keeps: if p || ranks > 0 { &inputs_kept } else { &[] },
            keeps_result: scale,
            keeps_bytes: if x.has_gradient || p { matrices * x.width } else { 0 } + hidden + converted,
            forward: F32 * matrices * factors + parts,
            backward: unused_gradient + product + hidden,
            trained: F32 * of_factors.max(1),
            ..Operation::default()
        }))
    }

    fn depthwise(&self, site: &SiteSpec, x: &Value) -> Value {
        let is_stacked = self.is_stacked(&weight(site));
        let Value { elements, width, .. } = *x;
        // Runs become groups of channels, in another order of the elements.
        let x = if is_stacked { self.copied(x, elements) } else { x.clone() };
        let y = self.tape.apply(Operation {
            inputs: &[&x],
            elements,
            width,
            keeps: &[&x],
            trained: self.gradient_of(&weight(site), site.outputs * site.inputs),
            ..Operation::default()
        });
        if is_stacked { self.copied(&y, elements) } else { y }
    }

    fn updated(&self, site: &SiteSpec, update: &Update, x: &Value, y: Value) -> Value {
        match update {
            Update::LowRank { ranks, is_rescaled, has_dropout } => {
                self.low_rank(site, *ranks, (*is_rescaled, *has_dropout), x, y)
            }
            Update::Vectors { rank, rows } => {
                let hidden = self.constant_product(x, [*rank, site.inputs]);
                rows.iter().fold(y, |y, &rows| {
                    let update = self.scaled(&self.constant_product(&self.scaled(&hidden), [rows, *rank]));
                    let is_part = rows != site.outputs;
                    let whole = x.elements / site.inputs * site.outputs;
                    let update = if is_part { self.copied(&update, whole) } else { update };
                    self.add(&y, &update)
                })
            }
        }
    }

    /// A product with a constant `[outputs, inputs]` in f32, which is converted for it.
    fn constant_product(&self, x: &Value, [outputs, inputs]: [i64; 2]) -> Value {
        self.tape.apply(Operation {
            inputs: &[x],
            elements: x.elements / inputs * outputs,
            width: x.width,
            keeps_bytes: if x.has_gradient && x.width < F32 { outputs * inputs * x.width } else { 0 },
            ..Operation::default()
        })
    }

    /// `LowRank::add`, and DoRA's scale of the result.
    fn low_rank(
        &self,
        site: &SiteSpec,
        ranks: i64,
        (is_rescaled, has_dropout): (bool, bool),
        x: &Value,
        y: Value,
    ) -> Value {
        let SiteSpec { inputs, outputs, .. } = *site;
        if !has_dropout {
            let updated = self.with_update(x, y, ranks, [outputs, inputs]);
            if !is_rescaled {
                return updated;
            }
            let rescaled = self.scaled(&updated);
            return if site.bias { self.shifted(&rescaled, F32) } else { rescaled };
        }
        let x = &self.dropped(x);
        if !is_rescaled {
            return self.with_update(x, y, ranks, [outputs, inputs]);
        }
        let frozen = self.copied(x, x.elements / inputs * outputs);
        let rescaled = self.scaled(&self.with_update(x, frozen.clone(), ranks, [outputs, inputs]));
        let sum = self.add(&y, &rescaled);
        let Value { elements, width, .. } = sum;
        self.tape.apply(Operation {
            inputs: &[&sum, &frozen],
            elements,
            width,
            passed_on: 1,
            ..Operation::default()
        })
    }

    /// y + B A x: keeps x and A x.
    fn with_update(&self, x: &Value, y: Value, ranks: i64, [outputs, inputs]: [i64; 2]) -> Value {
        let stack = self.setting.stack;
        let rows = x.elements / inputs;
        let product = |x: &Value, channels: i64, trained: i64| {
            self.tape.apply(Operation {
                inputs: &[x],
                elements: rows * channels,
                width: x.width,
                keeps: &[x],
                trained: F32 * stack * trained,
                ..Operation::default()
            })
        };
        let hidden = product(x, ranks, ranks * inputs);
        let of_b = ranks * outputs;
        // One kernel adds the second product to y.
        self.tape.apply(Operation {
            inputs: &[&y, &hidden],
            elements: y.elements,
            width: y.width,
            keeps: &[&hidden],
            passed_on: 1,
            trained: F32 * stack * of_b,
            ..Operation::default()
        })
    }

    /// The counterpart of `Dropout::apply`: keeps the mask.
    fn dropped(&self, x: &Value) -> Value {
        const RANDOM_BITS: i64 = 2;
        let Value { elements, width, .. } = *x;
        self.tape.apply(Operation {
            inputs: &[x],
            elements,
            width,
            keeps_bytes: x.bytes(),
            forward: RANDOM_BITS * elements + x.bytes(),
            backward: x.bytes(),
            ..Operation::default()
        })
    }
}

fn weight(site: &SiteSpec) -> String {
    format!("{}.weight", site.name)
}
