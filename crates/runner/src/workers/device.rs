//! The compute device, and its description in a record.

use anyhow::{Error, Result};
use tch::{Cuda, Device};

use crate::error::RunError;
use crate::workers::gpus;

/// The device by its name on the command line: `auto`, `cpu`, `cuda`.
///
/// # Errors
/// When the name is unknown, or a GPU is requested and none is usable.
pub fn resolve(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" | "cuda" => {
            torch_ops::load_cuda();
            match (Cuda::is_available(), name) {
                (true, _) => Ok(Device::Cuda(0)),
                (false, "auto") => Ok(Device::Cpu),
                (false, _) => Err(no_gpu()),
            }
        }
        other => Err(unknown(other)),
    }
}

/// The error for a GPU that is requested and not there.
pub(crate) fn no_gpu() -> Error {
    let reason = "no usable NVIDIA GPU, or this libtorch is the CPU one; try --device cpu";
    RunError::CommandLine { reason: reason.into() }.into()
}

/// The error for a device of another name.
pub(crate) fn unknown(name: &str) -> Error {
    RunError::CommandLine { reason: format!("there is no device `{name}`; use auto, cpu or cuda") }.into()
}

/// Name of the device for a record, and the UUID if it is a GPU.
pub fn describe(device: Device) -> (String, Option<String>) {
    if device == Device::Cpu {
        return (processor().map_or_else(|| "cpu".into(), |name| format!("cpu: {name}")), None);
    }
    let place = format!("{device:?}").to_lowercase();
    let gpu = gpus::current();
    let uuid = gpu.as_ref().and_then(|gpu| gpu.uuid().map(str::to_owned));
    let model = gpu.and_then(|gpu| gpu.model);
    (model.map_or_else(|| place.clone(), |model| format!("{place}: {model}")), uuid)
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Starts a new measurement of [`peak_memory`].
pub fn reset_peak_memory(device: Device) {
    // Fails on a GPU that no tensor has been moved to yet, which has no peak to forget.
    let _ = torch_ops::reset_peak_memory(device);
    // Linux: writing 5 resets the process's high-water mark. Other systems have none.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Peak memory since [`reset_peak_memory`], bytes: of this process on a processor, of libtorch's tensors on a GPU; `None`
/// if it cannot be read.
pub fn peak_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => peak_host_memory(),
        gpu => torch_ops::peak_memory(gpu).ok().flatten(),
    }
}

/// Peak resident memory of this process since [`reset_peak_memory`], bytes; `None` if it cannot be read.
pub fn peak_host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
