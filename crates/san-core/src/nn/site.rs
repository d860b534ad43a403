//! The parts of a model that methods adapt: projections and norms.
//!
//! A model is written in terms of [`Site`] and [`Norm`] and does not know which method is attached, if any. The
//! other two attachment points, residual branches and token sequences, are in `branch.rs`.

use std::rc::Rc;

use tch::{Kind, Tensor};
use torch_ops::Adaptation;

use crate::Error;
use crate::nn::parameter::{
    Parameter, add_low_rank, depthwise, layer_norm, linear, patches, product, rms_norm, scale, shift,
};
use crate::spec::model::Projection;

/// What a method does at one projection y = W x + b.
pub trait Adapter: std::fmt::Debug {
    /// A vector `[K, channels]` that scales the input: W diag(p) x = W (p * x). If the
    /// input is the output of a norm, the model folds the vector into the norm.
    fn input_scale(&self) -> Option<Tensor> {
        None
    }

    /// What happens to the output, for an adapter that can say so in this form. The site then chooses how to compute it:
    /// from the weights, or from the activations.
    fn output_change(&self) -> Option<OutputChange> {
        None
    }

    /// The adapted output of any other adapter. `x` `[K * batch, ..., inputs]` is the (scaled) input with patches
    /// unfolded, `y` `[K * batch, ..., outputs]` the frozen projection's output.
    fn adapt(&self, _x: &Tensor, y: Tensor) -> Tensor {
        y
    }

    /// Weight `[outputs, inputs]` and bias `[outputs]` that have the same effect on the input as
    /// [`Adapter::adapt`], for one run. The caller merges the input scale afterwards.
    ///
    /// # Errors
    /// If no such weight exists.
    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error>;
}

/// `scale * (y + B A x) + shift` of the output y for the input x.
#[derive(Debug, Default)]
pub struct OutputChange {
    /// A `[K, rank, inputs]` and B `[K, outputs, rank]`.
    pub low_rank: Option<[Tensor; 2]>,
    /// Factor, `[K, outputs]`.
    pub scale: Option<Tensor>,
    /// Addend, `[K, outputs]`.
    pub shift: Option<Tensor>,
    /// Whether the projection's bias is not part of y, but added after the scale.
    pub bias_is_unscaled: bool,
}

impl OutputChange {
    fn apply(&self, x: &Tensor, y: Tensor) -> Tensor {
        let y = match &self.low_rank {
            Some([a, b]) => add_low_rank(x, &y, a, b),
            None => y,
        };
        match (&self.scale, &self.shift) {
            (Some(scale), shift) => rescale(&y, scale, shift.as_ref()),
            (None, Some(add)) => shift(&y, add),
            (None, None) => y,
        }
    }
}

/// A merged weight `[outputs, inputs]` and bias `[outputs]`.
pub type Merged = (Tensor, Option<Tensor>);

/// A projection over the last dimension (channels) and the adapter attached to it, if any.
#[derive(Debug)]
pub struct Site {
    projection: Projection,
    weight: Parameter,
    bias: Option<Parameter>,
    adapter: Option<Rc<dyn Adapter>>,
}

impl Site {
    /// Per run, the weight is `[outputs, inputs]` and the bias `[outputs]`.
    pub fn new(
        projection: Projection,
        weight: Parameter,
        bias: Option<Parameter>,
        adapter: Option<Rc<dyn Adapter>>,
    ) -> Self {
        Self { projection, weight, bias, adapter }
    }

    /// Dtype of the weight, which is that of the activations.
    pub fn kind(&self) -> Kind {
        self.weight.kind()
    }

    /// See [`Adapter::input_scale`].
    pub fn input_scale(&self) -> Option<Tensor> {
        self.adapter.as_ref().and_then(|adapter| adapter.input_scale())
    }

    /// Projects an input that is not scaled yet, `[K * batch, ..., channels]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.adapted(x, self.input_scale().as_ref())
    }

    /// Projects an input already scaled by [`Site::input_scale`]. Images are `[K * batch, height, width,
    /// channels]`.
    pub fn project(&self, x: &Tensor) -> Tensor {
        self.adapted(x, None)
    }

    /// Projects `weight * x + bias`, each `[K, channels]`, which already contain [`Site::input_scale`].
    fn project_affine(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        self.affine_in_weights(x, weight, bias).unwrap_or_else(|| {
            let scaled = scale(x, weight);
            self.project(&bias.map_or_else(|| scaled.shallow_clone(), |bias| shift(&scaled, bias)))
        })
    }

    /// The same with W (weight * x + bias) = W diag(weight) x + W bias; `None` where [`Site::in_weights`] is.
    fn affine_in_weights(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Option<Tensor> {
        let (Projection::Linear, Parameter::Frozen(frozen)) = (self.projection, &self.weight) else {
            return None;
        };
        let mut change = match &self.adapter {
            Some(adapter) => adapter.output_change()?,
            None => OutputChange::default(),
        };
        if let Some(bias) = bias {
            let constant = product(bias, frozen);
            let constant = match &change.low_rank {
                Some([a, b]) => constant + b.matmul(&a.matmul(&bias.unsqueeze(2))).squeeze_dim(2),
                None => constant,
            };
            let constant =
                change.scale.as_ref().map_or_else(|| constant.shallow_clone(), |by| &constant * by);
            change.shift = Some(match change.shift {
                Some(shift) => shift + constant,
                None => constant,
            });
        }
        self.in_weights(x, Some(weight), &change)
    }

    fn adapted(&self, x: &Tensor, p: Option<&Tensor>) -> Tensor {
        // Images enter in f32; everything else has this dtype already.
        let x = &x.to_kind(self.kind());
        let change = match &self.adapter {
            Some(adapter) => adapter.output_change(),
            None => Some(OutputChange::default()),
        };
        if let Some(y) = change.as_ref().and_then(|change| self.in_weights(x, p, change)) {
            return y;
        }
        let x = p.map_or_else(|| x.shallow_clone(), |p| scale(x, p));
        let (bias, last_bias) = match &change {
            Some(change) if change.bias_is_unscaled => (None, self.bias.as_ref()),
            _ => (self.bias.as_ref(), None),
        };
        let (x, y) = match self.projection {
            Projection::Linear => {
                let y = linear(&x, &self.weight, bias);
                (x, y)
            }
            Projection::Patches { size } => {
                let x = patches(&x, size);
                let y = linear(&x, &self.weight, bias);
                (x, y)
            }
            Projection::Depthwise { kernel } => {
                let y = depthwise(&x, &self.weight, bias, kernel);
                (x, y)
            }
        };
        let y = match (change, &self.adapter) {
            (Some(change), _) => change.apply(&x, y),
            (None, Some(adapter)) => adapter.adapt(&x, y),
            (None, None) => y,
        };
        last_bias.map_or_else(|| y.shallow_clone(), |bias| shift(&y, &bias.stacked()))
    }

    /// The output by products with scaled weights and low-rank factors. `None` where scaling activations is the smaller
    /// work: for activations `[samples, channels]` that is two passes over them and two more in the backward pass, which
    /// compares with two passes over the weight `[outputs, inputs]`.
    fn in_weights(&self, x: &Tensor, p: Option<&Tensor>, change: &OutputChange) -> Option<Tensor> {
        let OutputChange { low_rank, scale, shift, bias_is_unscaled } = change;
        let runs = p.or(scale.as_ref()).or(low_rank.as_ref().map(|[a, _]| a))?.size()[0];
        let (Parameter::Frozen(weight), None | Some(Parameter::Frozen(_))) = (&self.weight, &self.bias)
        else {
            return None;
        };
        let x = match self.projection {
            Projection::Linear => x.shallow_clone(),
            Projection::Patches { size } if p.is_none() => patches(x, size),
            _ => return None,
        };
        let [outputs, inputs] = weight.size()[..] else { return None };
        let samples = i64::try_from(x.numel()).ok()? / inputs / runs;
        let channels = p.map_or(0, |_| inputs) + scale.as_ref().map_or(0, |_| outputs);
        let scales_weights = channels > 0;
        if x.kind() != weight.kind() || (scales_weights && samples * channels < outputs * inputs) {
            return None;
        }
        let bias = match &self.bias {
            Some(Parameter::Frozen(bias)) => Some(bias),
            _ => None,
        };
        let last_bias = bias.filter(|_| *bias_is_unscaled).map(|bias| bias.unsqueeze(0));
        let shift = match (shift, last_bias) {
            (Some(shift), Some(bias)) => Some(shift + bias),
            (Some(shift), None) => Some(shift.shallow_clone()),
            (None, bias) => bias,
        };
        let bias = bias.filter(|_| !bias_is_unscaled);
        let low_rank = low_rank.as_ref().map(|[a, b]| [a, b]);
        let adaptation = Adaptation { p, low_rank, scale: scale.as_ref(), shift: shift.as_ref() };
        Some(torch_ops::adapted_linear(&x, weight, bias, adaptation))
    }
}

/// A scale and a shift `[K, channels]` applied after a norm.
#[derive(Debug)]
pub struct NormAffine {
    /// Factor.
    pub scale: Tensor,
    /// Addend; `None` after a norm without bias.
    pub shift: Option<Tensor>,
}

/// A norm over the last dimension: layer norm, or RMS norm if there is no bias (arXiv 1910.07467).
#[derive(Debug)]
pub struct Norm {
    weight: Parameter,
    bias: Option<Parameter>,
    epsilon: f64,
    affine: Option<Rc<NormAffine>>,
}

impl Norm {
    /// A layer norm with weight and bias `[channels]`; `affine` is the method's scale and shift after it.
    pub fn layer(weight: Parameter, bias: Parameter, epsilon: f64, affine: Option<Rc<NormAffine>>) -> Self {
        Self { weight, bias: Some(bias), epsilon, affine }
    }

    /// An RMS norm with weight `[channels]`.
    pub fn rms(weight: Parameter, epsilon: f64, affine: Option<Rc<NormAffine>>) -> Self {
        Self { weight, bias: None, epsilon, affine }
    }

    /// The normalised input, `[K * batch, ..., channels]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.scaled(x, None)
    }

    /// Projects the normalised input. The site's input scale is folded into the norm's affine map, which saves
    /// a pass over the activations.
    pub fn then(&self, x: &Tensor, site: &Site) -> Tensor {
        self.then_each(x, [site])[0].shallow_clone()
    }

    /// Same as [`Norm::then`] for several sites that share the norm. It is computed once if no site scales its input, or
    /// if the norms of several runs differ and each site takes their affine maps into its weights.
    pub fn then_each<const N: usize>(&self, x: &Tensor, sites: [&Site; N]) -> [Tensor; N] {
        if sites.iter().all(|site| site.input_scale().is_none()) && self.affine(None).0.size()[0] == 1 {
            let x = self.forward(x);
            return sites.map(|site| site.project(&x));
        }
        let mut normal = None;
        sites.map(|site| {
            let (weight, bias) = self.affine(site.input_scale().as_ref());
            if weight.size()[0] == 1 {
                return site.project(&self.normalised(x, Some((weight, bias))));
            }
            let normal = normal.get_or_insert_with(|| self.normalised(x, None));
            site.project_affine(normal, &weight, bias.as_ref())
        })
    }

    /// The normalised input, already scaled for the site; pass it to [`Site::project`].
    pub fn forward_for(&self, x: &Tensor, site: &Site) -> Tensor {
        self.scaled(x, site.input_scale().as_ref())
    }

    fn scaled(&self, x: &Tensor, p: Option<&Tensor>) -> Tensor {
        self.normalised(x, Some(self.affine(p)))
    }

    /// Weight and bias `[1 or K, channels]`, with the method's affine map after the norm and a site's input scale.
    fn affine(&self, p: Option<&Tensor>) -> (Tensor, Option<Tensor>) {
        let (mut weight, mut bias) = (self.weight.stacked(), self.bias.as_ref().map(Parameter::stacked));
        // Never in place: these are the frozen tensors themselves.
        if let Some(NormAffine { scale, shift }) = self.affine.as_deref() {
            weight = &weight * scale;
            bias = bias.map(|bias| bias * scale);
            bias = match (bias, shift) {
                (Some(bias), Some(shift)) => Some(bias + shift),
                (bias, _) => bias,
            };
        }
        if let Some(p) = p {
            weight = &weight * p;
            bias = bias.map(|bias| bias * p);
        }
        (weight, bias)
    }

    /// The norm with an affine map, or without.
    fn normalised(&self, x: &Tensor, affine: Option<(Tensor, Option<Tensor>)>) -> Tensor {
        let width = *x.size().last().unwrap_or(&1);
        let Some((weight, bias)) = affine else {
            return match self.bias {
                Some(_) => x.layer_norm([width], None::<Tensor>, None::<Tensor>, self.epsilon, false),
                None => x.rms_norm([width], None::<Tensor>, self.epsilon),
            };
        };
        let weight = Parameter::trained(weight);
        match bias {
            Some(bias) => layer_norm(x, &weight, &Parameter::trained(bias), self.epsilon),
            None => rms_norm(x, &weight, self.epsilon),
        }
    }
}

/// Scales and optionally shifts an output.
pub(crate) fn rescale(y: &Tensor, by: &Tensor, add: Option<&Tensor>) -> Tensor {
    let y = scale(y, by);
    match add {
        Some(add) => shift(&y, add),
        None => y,
    }
}
