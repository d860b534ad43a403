//! What tch does not offer: libtorch's switches and counters, and the products of this project's layers.
//!
//! The products are autograd functions in C++ (`ops.cpp`), since tch can neither define one nor reach oneDNN. This is the
//! only crate with `unsafe` code in it.

mod peak;

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::{Device, TchError, Tensor};

pub use peak::PeakMemory;

/// `at::Tensor`.
type RawTensor = *const c_void;

unsafe extern "C" {
    fn torch_ops_free(message: *mut c_char);
    fn torch_ops_linear(y: *mut *mut c_void, x: RawTensor, weight: RawTensor, bias: RawTensor)
    -> *mut c_char;
    fn torch_ops_scaled_linear(
        y: *mut *mut c_void,
        x: RawTensor,
        weight: RawTensor,
        bias: RawTensor,
        p: RawTensor,
        scale: RawTensor,
        shift: RawTensor,
    ) -> *mut c_char;
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
    fn torch_ops_is_amd_with_avx512() -> bool;
    fn torch_ops_allow_tf32(allow: bool);
    fn torch_ops_reset_peak_memory(device: c_int) -> *mut c_char;
    fn torch_ops_peak_memory(device: c_int, bytes: *mut i64) -> *mut c_char;
}

/// The message of a function that failed, as an error.
fn checked(message: *mut c_char) -> Result<(), TchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a message is a string that `strdup` has allocated, and it is freed once, here.
    let text = unsafe { CStr::from_ptr(message).to_string_lossy().into_owned() };
    unsafe { torch_ops_free(message) };
    // The lines after the first are a stack trace of libtorch.
    Err(TchError::Torch(text.lines().next().unwrap_or_default().to_owned()))
}

fn raw(tensor: &Tensor) -> RawTensor {
    tensor.as_ptr().cast()
}

fn raw_or_null(tensor: Option<&Tensor>) -> RawTensor {
    tensor.map_or(std::ptr::null(), raw)
}

/// The tensor that a function returned.
fn result(run: impl FnOnce(*mut *mut c_void) -> *mut c_char) -> Result<Tensor, TchError> {
    let mut y = std::ptr::null_mut();
    checked(run(&raw mut y))?;
    // SAFETY: without an error, `y` is a tensor that C++ has allocated with `new`, as tch's own tensors are.
    Ok(unsafe { Tensor::from_ptr(y.cast()) })
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

#[allow(clippy::panic)]
fn fitting(y: Result<Tensor, TchError>) -> Tensor {
    y.unwrap_or_else(|error| panic!("{error}"))
}

/// The factors and the shift of a [`scaled_linear`], each for K runs; at least `p` or `scale` is present.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scales<'a> {
    /// Multiplies the input: `[K, in]`.
    pub p: Option<&'a Tensor>,
    /// Multiplies the output with its bias: `[K, out]`.
    pub scale: Option<&'a Tensor>,
    /// Added to the output: `[K, out]`.
    pub shift: Option<&'a Tensor>,
}

/// `scale * (W diag(p) x + b) + shift` for K runs that share the frozen `weight` `[out, in]` and `bias` `[out]`: `x` is
/// `[K * batch, ..., in]`. The scaled weights are computed, not the scaled activations; the result and the gradients of
/// x, p, scale and shift are the same up to rounding.
///
/// # Errors
/// When the shapes do not fit, or neither p nor scale is present.
pub fn f_scaled_linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    scales: Scales<'_>,
) -> Result<Tensor, TchError> {
    let Scales { p, scale, shift } = scales;
    if p.is_none() && scale.is_none() {
        return Err(TchError::Torch("scaled_linear needs a factor".into()));
    }
    // SAFETY: as in `linear`.
    result(|y| unsafe {
        torch_ops_scaled_linear(
            y,
            raw(x),
            raw(weight),
            raw_or_null(bias),
            raw_or_null(p),
            raw_or_null(scale),
            raw_or_null(shift),
        )
    })
}

/// [`f_scaled_linear`] for shapes that fit.
///
/// # Panics
/// When they do not, as tch's methods without `f_` do.
pub fn scaled_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, scales: Scales<'_>) -> Tensor {
    fitting(f_scaled_linear(x, weight, bias, scales))
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

/// Whether this is an AMD processor with AVX-512: [`linear`] and [`scaled_linear`] in f32 are then computed by oneDNN.
pub fn is_amd_with_avx512() -> bool {
    // SAFETY: the function reads the processor's identification only.
    unsafe { torch_ops_is_amd_with_avx512() }
}

/// Loads libtorch's CUDA library if present, so that one binary serves machines with and without a GPU: nothing links to
/// it. Returns whether it is present; the driver is not initialised.
pub fn load_cuda() -> bool {
    // SAFETY: the library's initialisers register CUDA's operators with libtorch and touch nothing of the program; it
    // comes from the same libtorch folder and is never unloaded.
    let library = unsafe { libloading::Library::new("libtorch_cuda.so") };
    library.map(std::mem::forget).is_ok()
}

/// Whether products and convolutions in f32 may use a GPU's TF32 units, which round their inputs to 10 bits.
pub fn allow_tf32(allow: bool) {
    // SAFETY: the function sets two flags of libtorch.
    unsafe { torch_ops_allow_tf32(allow) }
}

/// Starts a new measurement of [`peak_memory`] on a GPU; does nothing on other devices.
///
/// # Errors
/// When libtorch's allocator was not used yet.
pub fn reset_peak_memory(device: Device) -> Result<(), TchError> {
    match device {
        // SAFETY: the function reads and writes counters of libtorch's allocator.
        Device::Cuda(index) => {
            checked(unsafe { torch_ops_reset_peak_memory(c_int::try_from(index).unwrap_or(0)) })
        }
        _ => Ok(()),
    }
}

/// The most memory that libtorch's tensors have had on a GPU since [`reset_peak_memory`], bytes; `None` on other devices.
///
/// # Errors
/// When libtorch's allocator was not used yet.
pub fn peak_memory(device: Device) -> Result<Option<u64>, TchError> {
    let Device::Cuda(index) = device else { return Ok(None) };
    let mut bytes = 0;
    // SAFETY: as in `reset_peak_memory`; `bytes` outlives the call.
    checked(unsafe { torch_ops_peak_memory(c_int::try_from(index).unwrap_or(0), &raw mut bytes) })?;
    Ok(u64::try_from(bytes).ok())
}
