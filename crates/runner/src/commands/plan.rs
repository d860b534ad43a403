//! `san plan`: what an experiment would run, how long that takes on this machine or another one, and what is missing.

use anyhow::Result;
use runner::cost::device::Device;
use runner::error::RunError;
use runner::plan::device_memory::DeviceMemory;

use super::output;
use super::run::{self, Resolved};

/// Threads of a worker of another machine's GPU, which decode its images.
const THREADS_PER_GPU: u32 = 8;

/// Examples of `san plan`.
pub(crate) const EXAMPLES: &str = "Examples:\n  san plan vtab --calibrate\n  \
    san plan vtab --profile paper --for 8xH100\n  san plan commonsense --profile paper --for A100 --json";

/// Options of `san plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    run: run::Arguments,
    /// Train some steps of each method on each backbone first, on generated data, to measure how long they take on this
    /// device; the results folder keeps the times for later plans.
    #[arg(long)]
    calibrate: bool,
    /// Plan for the GPUs of another machine, for example 8xH100, or H100 for one.
    #[arg(long = "for", value_name = "NUMBERxGPU", value_parser = other_gpus, conflicts_with_all = ["gpus", "calibrate", "on"])]
    target: Option<OtherGpus>,
    /// Print the estimates as JSON: time in seconds, memory in bytes, and numbers of runs, by backbone and method.
    #[arg(long)]
    json: bool,
}

/// GPUs of another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OtherGpus {
    count: u32,
    model: String,
}

/// `8xH100`, or `H100`.
fn other_gpus(text: &str) -> Result<OtherGpus, String> {
    let counted = text.split_once(['x', 'X']).and_then(|(count, model)| Some((count.parse().ok()?, model)));
    let (count, model) = counted.unwrap_or((1, text));
    let is_known =
        Device::known_gpus().any(|name| name.eq_ignore_ascii_case(&model.replace(['-', '_'], " ")));
    if count == 0 || !is_known {
        let known = Device::known_gpus().collect::<Vec<_>>().join(", ");
        return Err(format!("expected a number and a GPU, as 8xH100; known are {known}"));
    }
    Ok(OtherGpus { count, model: model.to_owned() })
}

pub(crate) fn plan(arguments: &PlanArguments) -> Result<()> {
    let mut resolved = arguments.run.survey(false)?;
    let workers = match &arguments.target {
        Some(OtherGpus { count, model }) => {
            let threads = arguments.run.threads.unwrap_or(THREADS_PER_GPU);
            let device = Device::gpu(model, threads);
            let reason = || RunError::CommandLine { reason: format!("--for: nothing is known of {model}") };
            let device = device.ok_or_else(reason)?;
            let memory = DeviceMemory::of_gpu(device.memory, &format!("one {} has", device.name));
            arguments.run.workers_on(*count, device, memory)?
        }
        None => {
            if arguments.calibrate {
                arguments.run.calibrate(&resolved.plan)?;
            }
            arguments.run.workers()?
        }
    };
    let elsewhere = arguments.target.is_some();
    let group = arguments.run.group_size();
    let Resolved { plan, store, resources, .. } = &mut resolved;
    let time = plan.time(store, group, &workers, resources)?;
    if arguments.json {
        let estimate = serde_json::json!({"time": time, "memory": plan.memory(group, &workers.memory)?});
        output::line(format_args!("{}", serde_json::to_string_pretty(&estimate)?))?;
    } else {
        let described = plan.describe(store, &time, &workers, group)?;
        let more = arguments.run.more_in_words(&mut resolved, !elsewhere)?;
        output::line(format_args!("{described}{more}"))?;
    }
    resolved.complete().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_of_another_machine_are_a_number_and_a_model() {
        let gpus = |count, model: &str| Ok(OtherGpus { count, model: model.into() });
        assert_eq!(other_gpus("8xH100"), gpus(8, "H100"));
        assert_eq!(other_gpus("RTX 4090"), gpus(1, "RTX 4090"));
        assert_eq!(other_gpus("2xa100"), gpus(2, "a100"));
        for wrong in ["8", "8xK80", "0xH100", "x", "H100x8"] {
            assert!(other_gpus(wrong).is_err(), "{wrong}");
        }
    }
}
