//! Clipping of gradients by their norm, as torch's `clip_grad_norm_`.

use tch::{Tensor, no_grad};

use crate::Error;

/// Added to the norm by torch.
const EPSILON: f64 = 1e-6;

/// The factor that scales a gradient of this norm so that its norm is at most `max_norm`: `max_norm / (norm + 1e-6)`, at
/// most 1. Norms may have any shape; nothing is read from the device.
///
/// # Errors
/// If memory cannot be allocated.
pub fn clip_factor(norms: &Tensor, max_norm: f64) -> Result<Tensor, Error> {
    Ok(norms.f_add_scalar(EPSILON)?.f_reciprocal()?.f_mul_scalar(max_norm)?.f_clamp_max(1.0)?)
}

/// Scales the gradient `[K, P]` of each run in place by its [`clip_factor`]; `norms` `[K]` are the norms before.
///
/// # Errors
/// If the shapes do not fit.
pub fn clip_gradient(gradient: &Tensor, norms: &Tensor, max_norm: f64) -> Result<(), Error> {
    no_grad(|| {
        let factors = clip_factor(norms, max_norm)?.f_unsqueeze(1)?;
        let _ = gradient.shallow_clone().f_mul_(&factors)?;
        Ok(())
    })
}
