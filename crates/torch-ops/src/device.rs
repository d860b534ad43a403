//! Switches and counters of libtorch's devices.

use std::ffi::{c_char, c_int};

use tch::{Device, TchError};

use crate::checked;

unsafe extern "C" {
    fn torch_ops_allow_tf32(allow: bool);
    fn torch_ops_reset_peak_memory(device: c_int) -> *mut c_char;
    fn torch_ops_peak_memory(device: c_int, bytes: *mut i64) -> *mut c_char;
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
