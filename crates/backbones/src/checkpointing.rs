//! Gradient checkpointing (arXiv 1604.06174): the activations inside a block are not kept for the way
//! back but computed again, so that memory is one block's and the input of each.
//!
//! libtorch's own is Python's. Here a stage's input is a detached leaf; on the way back the stage is run
//! once more and differentiated alone: with g the gradient behind it, that of sum(stage(x) * g) is the
//! product of g with the stage's Jacobian. What a method attached is a function of its trained tensors
//! within each stage, so their parts add up.

use san_core::train::trainables::GradientSum;
use san_core::{Error, Trainables};
use tch::{Tensor, no_grad};

use crate::language::LanguageModel;

/// The loss of a pass over `embedded` and its gradient `[K, P]`, as [`Trainables::gradient`] gives it.
///
/// `valid` is as in [`LanguageModel::hidden`]; `loss` makes a scalar of what it gives.
///
/// # Errors
/// If libtorch cannot differentiate, and those of `loss`.
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

/// A stage's input, from which gradients are counted.
fn leaf(input: Option<Tensor>) -> Result<Tensor, Error> {
    Ok(input.unwrap_or_default().f_detach()?.f_set_requires_grad(true)?)
}

/// The scalar whose gradient is the product of `gradient` with the Jacobian of `output`.
fn pulled(output: &Tensor, gradient: &Tensor) -> Result<Tensor, Error> {
    Ok(output.f_mul(gradient)?.f_sum(None)?)
}
