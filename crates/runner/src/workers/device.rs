//! The compute device, and its description in a record.

use anyhow::{Result, bail};
use tch::{Cuda, Device};

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
                (false, _) => {
                    bail!("no usable NVIDIA GPU, or this libtorch is the CPU one; try --device cpu")
                }
            }
        }
        other => bail!("there is no device `{other}`; use auto, cpu or cuda"),
    }
}

/// Name of the device for a record.
pub fn describe(device: Device) -> String {
    match device {
        Device::Cpu => processor().map_or_else(|| "cpu".into(), |name| format!("cpu: {name}")),
        other => {
            let place = format!("{other:?}").to_lowercase();
            graphics_processor().map_or_else(|| place.clone(), |name| format!("{place}: {name}"))
        }
    }
}

/// Name of the first NVIDIA GPU, from its driver.
fn graphics_processor() -> Option<String> {
    let requested =
        std::process::Command::new("nvidia-smi").args(["--query-gpu=name", "--format=csv,noheader"]).output();
    let text = String::from_utf8(requested.ok()?.stdout).ok()?;
    text.lines().next().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
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
    if device != Device::Cpu {
        return torch_ops::peak_memory(device).ok().flatten();
    }
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
