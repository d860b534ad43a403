//! Products of activations with weights, frozen, trained or adapted.

use std::ffi::{c_char, c_void};

use tch::{TchError, Tensor};

use crate::{RawTensor, fitting, raw, raw_or_null, result};

unsafe extern "C" {
    fn torch_ops_linear(y: *mut *mut c_void, x: RawTensor, weight: RawTensor, bias: RawTensor)
    -> *mut c_char;
    fn torch_ops_adapted_linear(
        y: *mut *mut c_void,
        x: RawTensor,
        weight: RawTensor,
        bias: RawTensor,
        p: RawTensor,
        scale: RawTensor,
        shift: RawTensor,
        a: RawTensor,
        b: RawTensor,
    ) -> *mut c_char;
    fn torch_ops_is_amd_with_avx512() -> bool;
}

/// `x W^T + b`: `x` `[..., in]`, `weight` `[out, in]`, `bias` `[out]`, all of one dtype. The same as libtorch's `linear`,
/// but keeps no input of a frozen weight, and is computed by oneDNN where that is faster than MKL (see
/// [`is_amd_with_avx512`]).
///
/// # Errors
/// When the shapes or dtypes do not fit.
pub fn f_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, TchError> {
    // SAFETY: all pointers are those of living tensors, or null for an absent bias.
    result(|y| unsafe { torch_ops_linear(y, raw(x), raw(weight), raw_or_null(bias)) })
}

/// [`f_linear`] for shapes that fit.
///
/// # Panics
/// When they do not, as tch's methods without `f_` do.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    fitting(f_linear(x, weight, bias))
}

/// What an [`adapted_linear`] changes of a frozen projection, for K runs; at least one is present.
#[derive(Debug, Clone, Copy, Default)]
pub struct Adaptation<'a> {
    /// Multiplies the input: `[K, in]`.
    pub p: Option<&'a Tensor>,
    /// A `[K, rank, in]` and B `[K, out, rank]` of an update of the weight.
    pub low_rank: Option<[&'a Tensor; 2]>,
    /// Multiplies the output with its bias: `[K, out]`.
    pub scale: Option<&'a Tensor>,
    /// Added to the output: `[1 or K, out]`.
    pub shift: Option<&'a Tensor>,
}

/// `scale * ((W + B A) diag(p) x + b) + shift` for K runs that share the frozen `weight` `[out, in]` and `bias` `[out]`: `x`
/// is `[K * batch, ..., in]`. The scales go into the weights, not the activations, which are read by products only; the
/// result and the gradients of x and of the adaptation are the same up to rounding.
///
/// # Errors
/// When the shapes do not fit, or the adaptation is empty.
pub fn f_adapted_linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    adaptation: Adaptation<'_>,
) -> Result<Tensor, TchError> {
    let Adaptation { p, low_rank, scale, shift } = adaptation;
    let [a, b] = low_rank.map_or([None, None], |factors| factors.map(Some));
    if [p, a, scale, shift].iter().all(Option::is_none) {
        return Err(TchError::Torch("adapted_linear needs an adaptation".into()));
    }
    // SAFETY: as in `linear`.
    result(|y| unsafe {
        torch_ops_adapted_linear(
            y,
            raw(x),
            raw(weight),
            raw_or_null(bias),
            raw_or_null(p),
            raw_or_null(scale),
            raw_or_null(shift),
            raw_or_null(a),
            raw_or_null(b),
        )
    })
}

/// [`f_adapted_linear`] for shapes that fit.
///
/// # Panics
/// When they do not, as tch's methods without `f_` do.
pub fn adapted_linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    adaptation: Adaptation<'_>,
) -> Tensor {
    fitting(f_adapted_linear(x, weight, bias, adaptation))
}

/// Whether this is an AMD processor with AVX-512: [`linear`] and [`adapted_linear`] in f32 are then computed by oneDNN.
pub fn is_amd_with_avx512() -> bool {
    // SAFETY: the function reads the processor's identification only.
    unsafe { torch_ops_is_amd_with_avx512() }
}
