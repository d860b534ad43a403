//! `san align`: LLaVA's first stage, for a vision tower and a language model that were not trained together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use runner::error::RunError;
use runner::io::files::create_folder;
use runner::resources::Resources;
use runner::tasks::align::{Alignment, align};
use runner::train::checkpoint::CheckpointFile;
use runner::train::signals::{RUNNER_DEADLINE, StopFlag};
use runner::train::trainer::RunControl;
use runner::workers::device;
use san_core::io::safetensors::write_tensors;
use tch::Kind;

use super::meter::{Meter, Unit};
use super::output;
use crate::commands::run::resolved;

/// Options of `san align`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  SAN_DATA=data SAN_WEIGHTS=weights san align vl --profile small")]
pub(crate) struct Arguments {
    /// Name of an experiment in experiments/, or a file.
    experiment: String,
    /// The profile to use: its sets, its protocol, and every backbone `<tower>+<language model>`.
    #[arg(long, default_value = "small")]
    profile: String,
    /// Epochs over the training questions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    epochs: u64,
    /// Peak learning rate; LLaVA's is 1e-3.
    #[arg(long, default_value_t = 1e-3, value_parser = above_zero)]
    learning_rate: f64,
    /// Seed of the order of the questions.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Compute threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Keep what vision towers compute from pictures in files of this folder, as `san run` does.
    #[arg(long, value_name = "FOLDER")]
    cache_features: Option<PathBuf>,
    /// auto, cpu or cuda.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Folder of the checkpoint, which is written every minute.
    #[arg(long, default_value = "results")]
    results: PathBuf,
}

fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("a rate must be a number above 0".into()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let stop = StopFlag::install(RUNNER_DEADLINE)?;
    tch::set_num_threads(i32::try_from(arguments.threads)?);
    let mut resources = Resources::new(device::resolve(&arguments.device)?)
        .keeping_file_hashes(&arguments.results)
        .caching_features(arguments.cache_features.clone());
    let plan = stop.interruptible(|| resolved(&arguments.experiment, &arguments.profile, &mut resources))?;
    let runs = plan.finals.iter().map(|row| (row.run.backbone.as_str(), &row.run));
    let pairs: BTreeMap<_, _> = runs.filter(|(backbone, _)| backbone.contains('+')).collect();
    if pairs.is_empty() {
        let reason = format!("profile `{}` of {} has none", arguments.profile, arguments.experiment);
        return Err(RunError::Missing { what: "a backbone `<tower>+<language model>`".into(), reason }.into());
    }
    for (backbone, run) in pairs {
        let path = resources.models.projector_file(backbone)?;
        if path.is_file() {
            output::line(format_args!("{}: already exists; remove it to align again", path.display()))?;
            continue;
        }
        let Arguments { epochs, learning_rate, seed, .. } = *arguments;
        let alignment = Alignment { epochs, learning_rate, seed };
        let run = alignment.run(run);
        let folder = arguments.results.join("align");
        let checkpoint = CheckpointFile::of_run(&folder, &run.name()?, Duration::from_mins(1));
        let meter = Meter::new(format!("aligning {backbone}"), Unit::Steps, 0);
        let mut progress = |done, total| meter.show(done, total);
        let mut control = RunControl { stop: &stop, checkpoint: &checkpoint, progress: &mut progress };
        let aligned = align(&run, &mut resources, &mut control)?;
        let provenance =
            serde_json::json!({"alignment": alignment, "run": run, "train_loss": aligned.train_loss});
        let tensors = aligned.projector.iter().map(|(name, tensor)| (name.as_str(), tensor));
        path.parent().map_or(Ok(()), create_folder)?;
        write_tensors(&path, tensors, ("alignment", provenance.to_string()), Kind::Float)?;
        checkpoint.remove()?;
        let loss = aligned.train_loss;
        output::line(format_args!("{}: {loss:.3} nats per answer token", path.display()))?;
    }
    Ok(())
}
