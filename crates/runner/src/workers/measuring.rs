//! Measures kinds of groups for `--calibrate`, in a process with the threads, the GPU and the allocator of a worker.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::cost::calibration::{Kind, Measurement, Timed};
use crate::cost::device::Device;
use crate::cost::model::ModelSizes;
use crate::cost::work::Work;
use crate::resources::Resources;
use crate::tasks::{self, Run};
use crate::workers::device::describe;
use crate::workers::pool::Pool;
use crate::workers::supervisor::command;
use crate::workers::worker::send_line;

/// What a measuring process receives on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// Groups of runs, one of each kind.
    pub groups: Vec<Vec<Run>>,
    /// Name of the device.
    pub device: String,
    /// Compute threads.
    pub threads: u32,
}

/// What it sends for each group, one JSON object per line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// It was measured.
    Measured(Box<Measurement>),
    /// Why it was not.
    Failed(String),
}

impl Pool {
    /// What is known of the device that each of its workers computes on.
    pub fn device(&self) -> Device {
        match self.gpus.first().filter(|gpu| !gpu.is_pretended) {
            None => Device::processor(describe(tch::Device::Cpu).0, self.threads),
            Some(gpu) => {
                let model = gpu.model.as_deref().unwrap_or("an unnamed GPU");
                Device::gpu(model, self.threads).unwrap_or_else(|| Device::other_gpu(model, self.threads))
            }
        }
    }

    /// Measures groups, one of each kind, on one worker's device; `done` is called with the report on each.
    ///
    /// # Errors
    /// When the process cannot be started, or ends before it has measured all.
    pub fn measure(&self, groups: &[Vec<Run>], done: &mut dyn FnMut(&[Run], Report)) -> Result<()> {
        let on_gpu = self.gpus.iter().any(|gpu| !gpu.is_pretended);
        let device = if on_gpu { "cuda" } else { "cpu" };
        let assignment = Assignment { groups: groups.to_vec(), device: device.into(), threads: self.threads };
        let mut process =
            command("measure", self.threads, self.gpu(0))?.spawn().context("starting a measurement")?;
        let mut input = process.stdin.take().context("the measuring process has no input")?;
        // A process that ends before it has read everything is reported below.
        let _ = input.write_all(&serde_json::to_vec(&assignment)?);
        drop(input);
        let output = process.stdout.take().context("the measuring process has no output")?;
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        let reports = lines.filter_map(|line| serde_json::from_str::<Report>(&line).ok());
        let mut measured = 0;
        for (runs, report) in groups.iter().zip(reports) {
            done(runs, report);
            measured += 1;
        }
        let status = process.wait()?;
        if measured < groups.len() {
            anyhow::bail!("measuring ended after {measured} of {} kinds of runs: {status}", groups.len());
        }
        Ok(())
    }
}

/// Measures each group and sends a report on it; files are written into `folder`.
///
/// # Errors
/// When the output is closed.
pub fn measure_all(
    groups: &[Vec<Run>],
    resources: &mut Resources,
    folder: &Path,
    output: &mut dyn Write,
) -> Result<()> {
    for runs in groups {
        let report = match measurement(runs, resources, folder) {
            Ok(measured) => Report::Measured(Box::new(measured)),
            Err(error) => Report::Failed(format!("{error:#}")),
        };
        send_line(output, &report)?;
    }
    Ok(())
}

fn measurement(runs: &[Run], resources: &mut Resources, folder: &Path) -> Result<Measurement> {
    let kind = Kind::of(&runs[0], runs.len())?;
    let (runs, sizes) = tasks::stand_in(runs, resources)?;
    let task = runs[0].protocol.task().map_err(anyhow::Error::msg)?;
    let model = ModelSizes::of(&runs[0], &resources.models)?;
    let amounts = task.amounts(&runs[0], &sizes, Some(&mut *resources))?;
    let work = model.group(&runs, &amounts)?;
    let measured = tasks::measure(&runs, resources, folder)?;
    let timed = |work: Work, seconds: f64| Timed { work, seconds };
    Ok(Measurement {
        kind,
        step: timed(work.step, measured.step),
        evaluation: timed(work.evaluation, measured.evaluation),
        preparation: timed(work.preparation, measured.preparation),
        start_seconds: measured.start,
    })
}
