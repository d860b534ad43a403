//! `san pretrain`: trains a bundled backbone.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use runner::pretrain::{Settings, pretrain as train};
use runner::train::checkpoint::CheckpointFile;
use runner::train::signals::{RUNNER_DEADLINE, StopFlag};
use runner::train::trainer::RunControl;
use runner::workers::device;

use super::meter::{Meter, Unit};
use super::output;

/// Options of `san pretrain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  san pretrain vit_micro --output assets/vit_micro.safetensors")]
pub(crate) struct Arguments {
    /// Name of a bundled backbone.
    backbone: String,
    /// Where the f16 safetensors file is written.
    #[arg(long)]
    output: PathBuf,
    /// Optimiser steps.
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    steps: u64,
    /// Samples per step.
    #[arg(long, default_value = "128")]
    batch_size: NonZeroUsize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 2e-3)]
    learning_rate: f64,
    /// Weight decay of matrices.
    #[arg(long, default_value_t = 0.05)]
    weight_decay: f64,
    /// Seed of the data and the initial weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Continue from this file of the same backbone.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// auto, cpu or cuda.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Folder of the training log, and of the checkpoint that is written every minute.
    #[arg(long, default_value = "results")]
    results: PathBuf,
}

pub(crate) fn pretrain(arguments: &Arguments) -> Result<()> {
    let stop = StopFlag::install(RUNNER_DEADLINE)?;
    // One thread trains and another generates the data: more would wait for each other.
    tch::set_num_threads(1);
    let settings = Settings {
        backbone: arguments.backbone.clone(),
        steps: arguments.steps,
        batch_size: arguments.batch_size.get(),
        learning_rate: arguments.learning_rate,
        weight_decay: arguments.weight_decay,
        seed: arguments.seed,
        from: arguments.from.clone(),
    };
    let device = device::resolve(&arguments.device)?;
    let folder = arguments.results.join("pretrain");
    let checkpoint = CheckpointFile::of_run(&folder, &settings.name()?, Duration::from_mins(1));
    let meter = Meter::new(format!("training {}", settings.backbone), Unit::Steps, 0);
    let mut progress = |done, total| meter.show(done, total);
    let mut control = RunControl { stop: &stop, checkpoint: &checkpoint, progress: &mut progress };
    let log = folder.join(&settings.backbone);
    let reached = train(&settings, device, &arguments.output, &log, &mut control)?;
    checkpoint.remove()?;
    output::line(format_args!("{}: {reached}", arguments.output.display()))?;
    Ok(())
}
