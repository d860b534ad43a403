//! Gradient checkpointing (arXiv 1604.06174): activations inside a block are not stored for the backward pass
//! but recomputed, so memory holds one block's activations plus every block's input.
//!
//! libtorch's own implementation is in Python. Here each stage's input is a detached leaf; in the backward pass
//! the stage is run again and differentiated separately: with g the gradient at its output, the gradient of
//! sum(stage(x) * g) is the product of g with the stage's Jacobian. What a method attaches is recomputed from
//! its trained tensors within each stage, so the contributions add up.

use san_core::Trainables;
use san_core::train::gradients::{GradientSink, GradientSum, differentiate};
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
    let mut sum = GradientSum::new(trainables);
    let losses = gradients(model, trainables, embedded, valid, losses, &mut sum)?;
    Ok((losses, sum.finish()?))
}

/// The same with the gradients passed to `sink` stage by stage, from the last to the first. A stage is computed again
/// before it is differentiated, so a sink may change a tensor once it has all of its gradient.
///
/// # Errors
/// As for [`gradient`]; errors of the sink.
pub fn gradients(
    model: &dyn LanguageModel,
    trainables: &Trainables,
    embedded: &Tensor,
    valid: Option<&Tensor>,
    losses: impl Fn(&Tensor) -> Result<Tensor, Error>,
    sink: &mut dyn GradientSink,
) -> Result<Tensor, Error> {
    let stages = model.stages(embedded, valid);
    let mut inputs = Vec::with_capacity(stages.len());
    let mut last = embedded.f_detach()?;
    for stage in &stages {
        let next = no_grad(|| stage(&last));
        inputs.push(std::mem::replace(&mut last, next));
    }
    let hidden = leaf(&last)?;
    let mut of_scalar =
        |scalar: &Tensor, input: Option<&Tensor>| differentiate(trainables, scalar, input, sink);
    let values = losses(&hidden)?;
    let mut output_gradient = of_scalar(&values.f_sum(None::<Kind>)?, Some(&hidden))?;
    let values = values.f_detach()?;
    for (stage, input) in stages.iter().zip(inputs).rev() {
        let Some(gradient) = output_gradient else { break };
        let input = leaf(&input)?;
        output_gradient = of_scalar(&vjp_scalar(&stage(&input), &gradient)?, Some(&input))?;
    }
    if let (Some(gradient), true) = (output_gradient, embedded.requires_grad()) {
        of_scalar(&vjp_scalar(embedded, &gradient)?, None)?;
    }
    Ok(values)
}

/// Activations as an autograd leaf.
fn leaf(activations: &Tensor) -> Result<Tensor, Error> {
    Ok(activations.f_detach()?.f_set_requires_grad(true)?)
}

/// The scalar whose gradient is the vector-Jacobian product of `gradient` with `output`.
fn vjp_scalar(output: &Tensor, gradient: &Tensor) -> Result<Tensor, Error> {
    Ok(output.f_mul(gradient)?.f_sum(None::<Kind>)?)
}
