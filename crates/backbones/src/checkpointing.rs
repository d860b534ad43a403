//! Gradient checkpointing (arXiv 1604.06174): activations inside a block are not stored for the backward pass
//! but recomputed, so memory holds one block's activations plus every block's input.
//!
//! libtorch's own implementation is in Python. Here each stage's input is a detached leaf; in the backward pass
//! the stage is run again and differentiated separately: with g the gradient at its output, the gradient of
//! sum(stage(x) * g) is the product of g with the stage's Jacobian. What a method attaches is recomputed from
//! its trained tensors within each stage, so the contributions add up.

use san_core::Trainables;
use san_core::train::trainables::GradientSum;
use tch::{Kind, Tensor, no_grad};

use crate::Error;
use crate::language::LanguageModel;

/// The losses of a forward pass over `embedded` and the gradient `[K, P]` of their sum, as in [`Trainables::gradient`].
///
/// `valid` is as in [`LanguageModel::hidden`]; `losses` maps the hidden states to the loss of each run, `[K]`.
///
/// # Errors
/// If libtorch cannot differentiate; errors of `losses`.
pub fn gradient(
    model: &dyn LanguageModel,
    trainables: &Trainables,
    embedded: &Tensor,
    valid: Option<&Tensor>,
    losses: impl Fn(&Tensor) -> Result<Tensor, Error>,
) -> Result<(Tensor, Tensor), Error> {
    let stages = model.stages(embedded, valid);
    let mut inputs = Vec::with_capacity(stages.len());
    let mut last = embedded.f_detach()?;
    for stage in &stages {
        let next = no_grad(|| stage(&last));
        inputs.push(std::mem::replace(&mut last, next));
    }
    let mut sum = GradientSum::new(trainables);
    let hidden = leaf(&last)?;
    let values = losses(&hidden)?;
    let mut output_gradient = sum.add(&values.f_sum(None::<Kind>)?, Some(&hidden))?;
    for (stage, input) in stages.iter().zip(inputs).rev() {
        let Some(gradient) = output_gradient else { break };
        let input = leaf(&input)?;
        output_gradient = sum.add(&vjp_scalar(&stage(&input), &gradient)?, Some(&input))?;
    }
    if let (Some(gradient), true) = (output_gradient, embedded.requires_grad()) {
        sum.add(&vjp_scalar(embedded, &gradient)?, None)?;
    }
    Ok((values.f_detach()?, sum.finish()?))
}

/// Activations as an autograd leaf.
fn leaf(activations: &Tensor) -> Result<Tensor, Error> {
    Ok(activations.f_detach()?.f_set_requires_grad(true)?)
}

/// The scalar whose gradient is the vector-Jacobian product of `gradient` with `output`.
fn vjp_scalar(output: &Tensor, gradient: &Tensor) -> Result<Tensor, Error> {
    Ok(output.f_mul(gradient)?.f_sum(None::<Kind>)?)
}
