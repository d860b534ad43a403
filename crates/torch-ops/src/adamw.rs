//! Steps of AdamW by fused kernels.

use std::ffi::{c_char, c_void};

use tch::{TchError, Tensor};

use crate::{RawTensor, checked, raw, raw_or_null, result};

unsafe extern "C" {
    fn torch_ops_adamw(
        values: RawTensor,
        gradient: RawTensor,
        first: RawTensor,
        second: RawTensor,
        step: RawTensor,
        rate: RawTensor,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        epsilon: f64,
        skipped: RawTensor,
    ) -> *mut c_char;
    fn torch_ops_compensated_adamw(
        values: RawTensor,
        compensation: RawTensor,
        gradient: RawTensor,
        first: RawTensor,
        second: RawTensor,
        rate: RawTensor,
        skipped: RawTensor,
        factor: RawTensor,
        step: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        epsilon: f64,
        seed: u64,
    ) -> *mut c_char;
    fn torch_ops_squared_norm(sum: *mut *mut c_void, x: RawTensor) -> *mut c_char;
}

/// The tensors of an AdamW step: contiguous, of one shape, on one device.
#[derive(Debug, Clone, Copy)]
pub struct AdamWTensors<'a> {
    /// What is trained; updated in place.
    pub values: &'a Tensor,
    /// Its gradient.
    pub gradient: &'a Tensor,
    /// First moment; updated in place.
    pub first: &'a Tensor,
    /// Second moment; updated in place.
    pub second: &'a Tensor,
}

/// Numbers of an AdamW step.
#[derive(Debug, Clone, Copy)]
pub struct AdamWNumbers<'a> {
    /// The number of this step, from 1: a scalar in f32.
    pub step: &'a Tensor,
    /// Learning rate: a scalar.
    pub rate: &'a Tensor,
    /// If this scalar in f32 is 1, nothing is changed.
    pub skipped: &'a Tensor,
    /// Decay rates of the moments.
    pub betas: [f64; 2],
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Added to the denominator.
    pub epsilon: f64,
}

/// One step of AdamW in a single pass over the tensors, by libtorch's fused kernel.
///
/// # Errors
/// When the shapes do not fit.
pub fn adamw(tensors: AdamWTensors<'_>, numbers: AdamWNumbers<'_>) -> Result<(), TchError> {
    let AdamWTensors { values, gradient, first, second } = tensors;
    let AdamWNumbers { step, rate, skipped, betas: [beta1, beta2], weight_decay, epsilon } = numbers;
    // SAFETY: all pointers are those of living tensors.
    checked(unsafe {
        torch_ops_adamw(
            raw(values),
            raw(gradient),
            raw(first),
            raw(second),
            raw(step),
            raw(rate),
            beta1,
            beta2,
            weight_decay,
            epsilon,
            raw(skipped),
        )
    })
}

/// The tensors of a [`compensated_adamw`] step, all in bf16, contiguous, of one shape and on one device.
#[derive(Debug, Clone, Copy)]
pub struct CompensatedTensors<'a> {
    /// What is trained; updated in place.
    pub values: &'a Tensor,
    /// What rounding has removed from the values; updated in place.
    pub compensation: &'a Tensor,
    /// The gradient.
    pub gradient: &'a Tensor,
    /// First moment; updated in place.
    pub first: &'a Tensor,
    /// Second moment; updated in place.
    pub second: &'a Tensor,
}

/// Numbers of a [`compensated_adamw`] step.
#[derive(Debug, Clone, Copy)]
pub struct CompensatedNumbers<'a> {
    /// The number of this step, from 1.
    pub step: u64,
    /// Learning rate: a scalar in f32 on the device.
    pub rate: &'a Tensor,
    /// If this scalar boolean on the device is true, nothing is changed.
    pub skipped: &'a Tensor,
    /// Multiplies the gradient: a scalar in f32 on the device.
    pub factor: Option<&'a Tensor>,
    /// Decay rates of the moments.
    pub betas: [f64; 2],
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// Seed of the stochastic rounding.
    pub seed: u64,
}

/// One step of AdamW whose values and moments are stored in bf16 and computed in f32, a chunk of 2^23 elements at a time.
///
/// The values are the sum of two bf16 numbers (Kahan's compensation), so that updates below half a step of bf16 are not
/// lost. The compensation and the moments are rounded stochastically: with `beta2` = 0.999 the second moment changes by
/// less than half a step of bf16, and rounded to nearest it would never decay; nor would the smallest updates add up.
///
/// # Errors
/// When the shapes do not fit.
pub fn compensated_adamw(
    tensors: CompensatedTensors<'_>,
    numbers: CompensatedNumbers<'_>,
) -> Result<(), TchError> {
    let CompensatedTensors { values, compensation, gradient, first, second } = tensors;
    let CompensatedNumbers { step, rate, skipped, factor, betas: [beta1, beta2], .. } = numbers;
    // SAFETY: all pointers are those of living tensors, or null for an absent factor.
    #[allow(clippy::cast_precision_loss)]
    checked(unsafe {
        torch_ops_compensated_adamw(
            raw(values),
            raw(compensation),
            raw(gradient),
            raw(first),
            raw(second),
            raw(rate),
            raw(skipped),
            raw_or_null(factor),
            step as f64,
            beta1,
            beta2,
            numbers.weight_decay,
            numbers.epsilon,
            numbers.seed,
        )
    })
}

/// The sum of the squares of all elements, a scalar in f32, computed in f32 in chunks of 2^23 elements.
///
/// # Errors
/// When libtorch fails.
pub fn squared_norm(x: &Tensor) -> Result<Tensor, TchError> {
    // SAFETY: the pointer is that of a living tensor.
    result(|sum| unsafe { torch_ops_squared_norm(sum, raw(x)) })
}
