//! Gradient checkpointing (arXiv 1604.06174): activations inside a block are not stored for the backward pass
//! but recomputed, so memory holds one block's activations plus every block's input.
//!
//! libtorch's own implementation is in Python. Here each stage's input is a detached leaf; in the backward pass
//! the stage is run again and differentiated separately: with g the gradient at its output, the gradient of
//! sum(stage(x) * g) is the product of g with the stage's Jacobian. What a method attaches is recomputed from
//! its trained tensors within each stage, so the contributions add up.

use san_core::Trainables;
use san_core::train::trainables::GradientSum;
use tch::{Tensor, no_grad};

use crate::Error;
use crate::language::LanguageModel;

/// The loss of a forward pass over `embedded` and its gradient `[K, P]`, as in [`Trainables::gradient`].
///
/// `valid` is as in [`LanguageModel::hidden`]; `loss` maps the hidden states to a scalar.
///
/// # Errors
/// If libtorch cannot differentiate; errors of `loss`.
pub fn gradient(
    model: &dyn LanguageModel,
    trainables: &Trainables,
    embedded: &Tensor,
    valid: Option<&Tensor>,
    loss: impl Fn(&Tensor) -> Result<Tensor, Error>,
) -> Result<(Tensor, Tensor), Error> {
    let stages = model.stages(embedded, valid);
    let mut inputs = vec![embedded.f_detach()?];
    for stage in &stages {
        let next = no_grad(|| stage(&inputs[inputs.len() - 1]));
        inputs.push(next);
    }
    let mut sum = GradientSum::new(trainables);
    let hidden = leaf(inputs.pop())?;
    let value = loss(&hidden)?;
    let mut behind = sum.add(&value, Some(&hidden))?;
    for stage in stages.iter().rev() {
        let input = leaf(inputs.pop())?;
        let Some(gradient) = behind else { break };
        behind = sum.add(&pulled(&stage(&input), &gradient)?, Some(&input))?;
    }
    if let (Some(gradient), true) = (behind, embedded.requires_grad()) {
        sum.add(&pulled(embedded, &gradient)?, None)?;
    }
    Ok((value.f_detach()?, sum.finish()?))
}

/// A stage's input as an autograd leaf.
fn leaf(input: Option<Tensor>) -> Result<Tensor, Error> {
    Ok(input.unwrap_or_default().f_detach()?.f_set_requires_grad(true)?)
}

/// The scalar whose gradient is the vector-Jacobian product of `gradient` with `output`.
fn pulled(output: &Tensor, gradient: &Tensor) -> Result<Tensor, Error> {
    Ok(output.f_mul(gradient)?.f_sum(None)?)
}
