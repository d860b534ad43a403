//! What a method adapts inside a model: projections and norms.
//!
//! A model is written over [`Site`] and [`Norm`] and does not know which method is attached, if any.
//! Residual branches and sequences of tokens, the other two places, are in `branch.rs`.

use std::rc::Rc;

use tch::{Kind, Tensor};

use crate::Error;
use crate::nn::parameter::{Parameter, depthwise, layer_norm, linear, patches, rms_norm, scale, shift};
use crate::spec::model::Projection;

/// What a method does at one projection y = W x + b.
pub trait Adapter: std::fmt::Debug {
    /// A vector `[K, channels]` to scale the input by: W diag(p) x = W (p * x), so that no matrix is
    /// built; where the input is a norm's output, the model folds it into the norm.
    fn input_scale(&self) -> Option<Tensor> {
        None
    }

    /// The adapted output. `x` `[K * batch, ..., inputs]` is the (scaled) input, patches unfolded, `y`
    /// `[K * batch, ..., outputs]` what the projection made of it.
    fn adapt(&self, x: &Tensor, y: Tensor) -> Tensor;

    /// Weight `[outputs, inputs]` and bias `[outputs]` that do alone what [`Adapter::adapt`] does to
    /// its input, for one run. The input scale is merged by the caller, behind.
    ///
    /// # Errors
    /// When no such weight exists.
    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error>;
}

/// A merged weight `[outputs, inputs]` and bias `[outputs]`.
pub type Merged = (Tensor, Option<Tensor>);

/// A projection over the last dimension (channels), and what a method attached to it.
#[derive(Debug)]
pub struct Site {
    projection: Projection,
    weight: Parameter,
    bias: Option<Parameter>,
    adapter: Option<Rc<dyn Adapter>>,
}

impl Site {
    /// Weight `[outputs, inputs]` a run, bias `[outputs]`.
    pub fn new(
        projection: Projection,
        weight: Parameter,
        bias: Option<Parameter>,
        adapter: Option<Rc<dyn Adapter>>,
    ) -> Self {
        Self { projection, weight, bias, adapter }
    }

    /// Type of the weight, which the product is computed in.
    pub fn kind(&self) -> Kind {
        self.weight.kind()
    }

    /// See [`Adapter::input_scale`].
    pub fn input_scale(&self) -> Option<Tensor> {
        self.adapter.as_ref().and_then(|adapter| adapter.input_scale())
    }

    /// The projection of an input that is not scaled yet: `[K * batch, ..., channels]` to outputs.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        match self.input_scale() {
            Some(p) => self.project(&scale(x, &p)),
            None => self.project(x),
        }
    }

    /// The projection of an input that carries [`Site::input_scale`] already. Images are
    /// `[K * batch, height, width, channels]`.
    pub fn project(&self, x: &Tensor) -> Tensor {
        let bias = self.bias.as_ref();
        let (x, y) = match self.projection {
            Projection::Linear => (x.shallow_clone(), linear(x, &self.weight, bias)),
            Projection::Patches { size } => {
                let x = patches(x, size);
                let y = linear(&x, &self.weight, bias);
                (x, y)
            }
            Projection::Depthwise { kernel } => (x.shallow_clone(), depthwise(x, &self.weight, bias, kernel)),
        };
        match &self.adapter {
            Some(adapter) => adapter.adapt(&x, y),
            None => y,
        }
    }
}

/// A scale and a shift `[K, channels]` behind a norm.
#[derive(Debug)]
pub struct NormAffine {
    /// Factor.
    pub scale: Tensor,
    /// Addend; none behind a norm without bias.
    pub shift: Option<Tensor>,
}

/// A norm over the last dimension: a layer norm, or without bias an RMS norm (arXiv 1910.07467).
#[derive(Debug)]
pub struct Norm {
    weight: Parameter,
    bias: Option<Parameter>,
    epsilon: f64,
    affine: Option<Rc<NormAffine>>,
}

impl Norm {
    /// A layer norm with weight and bias `[channels]`; `affine` is what a method put behind.
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

    /// The projection of the normalised input. The site's input scale is folded into the norm's own
    /// affine map, so that it costs no pass over the activations.
    pub fn then(&self, x: &Tensor, site: &Site) -> Tensor {
        site.project(&self.forward_for(x, site))
    }

    /// As [`Norm::then`] for several sites that read the same norm, which is computed once where no
    /// site scales its input.
    pub fn then_each<const N: usize>(&self, x: &Tensor, sites: [&Site; N]) -> [Tensor; N] {
        if sites.iter().all(|site| site.input_scale().is_none()) {
            let x = self.forward(x);
            return sites.map(|site| site.project(&x));
        }
        sites.map(|site| self.then(x, site))
    }

    /// The normalised input, which carries the site's input scale already; [`Site::project`] goes on.
    pub fn forward_for(&self, x: &Tensor, site: &Site) -> Tensor {
        self.scaled(x, site.input_scale().as_ref())
    }

    fn scaled(&self, x: &Tensor, p: Option<&Tensor>) -> Tensor {
        let (mut weight, mut bias) = (self.weight.stacked(), self.bias.as_ref().map(Parameter::stacked));
        // Never in place: the tensors are the frozen ones themselves.
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
        let weight = Parameter::Trained(weight);
        match bias {
            Some(bias) => layer_norm(x, &weight, &Parameter::Trained(bias), self.epsilon),
            None => rms_norm(x, &weight, self.epsilon),
        }
    }
}

/// Scale and shift of an output; the shift may be absent.
pub(crate) fn rescale(y: &Tensor, by: &Tensor, add: Option<&Tensor>) -> Tensor {
    let y = scale(y, by);
    match add {
        Some(add) => shift(&y, add),
        None => y,
    }
}
