//! What tch does not offer: libtorch's switches and counters, and the products of this project's layers.
//!
//! The products are autograd functions in C++ (`cpp/`), since tch can neither define one nor reach oneDNN. This is the
//! only crate with `unsafe` code in it.

mod adamw;
mod attention;
mod device;
mod operations;
mod peak;
mod products;

use std::ffi::{CStr, c_char, c_void};

use tch::{TchError, Tensor};

pub use adamw::{
    AdamWNumbers, AdamWTensors, CompensatedNumbers, CompensatedTensors, adamw, compensated_adamw,
    squared_norm,
};
pub use attention::{short_attention, short_attention_lanes};
pub use device::{allow_tf32, load_cuda, peak_memory, reset_peak_memory};
pub use operations::operations_of;
pub use peak::PeakMemory;
pub use products::{Adaptation, adapted_linear, f_adapted_linear, f_linear, is_amd_with_avx512, linear};

/// `at::Tensor`.
type RawTensor = *const c_void;

unsafe extern "C" {
    fn torch_ops_free(message: *mut c_char);
    fn torch_ops_version(tensor: RawTensor) -> u32;
}

/// A number that changes whenever a tensor or a view of it is changed in place, as autograd counts it.
pub fn version(tensor: &Tensor) -> u32 {
    // SAFETY: the pointer is that of a living tensor.
    unsafe { torch_ops_version(raw(tensor)) }
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

#[allow(clippy::panic)]
fn fitting(y: Result<Tensor, TchError>) -> Tensor {
    y.unwrap_or_else(|error| panic!("{error}"))
}
