//! Clipping of gradients by their norm, as torch's `clip_grad_norm_`.

use tch::{Tensor, no_grad};

use crate::Error;

/// Added to the norm by torch.
const EPSILON: f64 = 1e-6;

/// Scales the gradient `[K, P]` of each run in place so that its norm is at most `max_norm`; `norms` `[K]` are the norms
/// before. The factor is `max_norm / (norm + 1e-6)`, at most 1. Nothing is read from the device.
///
/// # Errors
/// If the shapes do not fit.
pub fn clip_gradient(gradient: &Tensor, norms: &Tensor, max_norm: f64) -> Result<(), Error> {
    no_grad(|| {
        let factors = norms.f_add_scalar(EPSILON)?.f_reciprocal()?.f_mul_scalar(max_norm)?;
        let factors = factors.f_clamp_max(1.0)?.f_unsqueeze(1)?;
        let _ = gradient.shallow_clone().f_mul_(&factors)?;
        Ok(())
    })
}
