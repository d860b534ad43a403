//! Copies from the host to a GPU.

use anyhow::Result;
use tch::{Device, Tensor};

/// Copies a small tensor to the device without waiting for it: a copy from ordinary memory waits until the GPU has done
/// everything that it was asked before.
///
/// # Errors
/// When there is not enough memory.
pub fn to_device(tensor: &Tensor, device: Device) -> Result<Tensor> {
    if device == Device::Cpu {
        return Ok(tensor.shallow_clone());
    }
    Ok(tensor.f_pin_memory(device)?.f_internal_to_copy((tensor.kind(), device), true)?)
}
