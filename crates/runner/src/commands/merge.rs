//! `san merge`: a cell's adapter becomes plain weights.

use std::path::PathBuf;

use anyhow::Result;
use san_core::merge;
use san_core::weights::write_tensors;
use tch::Kind;

use super::tuned::Tuned;

use crate::output;

/// Options of `san merge`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  san merge results/runs/vtab/embedded/<cell> --output merged.safetensors")]
pub(crate) struct Arguments {
    /// Folder of a cell that is done.
    cell: PathBuf,
    /// Where the f32 safetensors file goes.
    #[arg(long)]
    output: PathBuf,
}

pub(crate) fn merge(arguments: &Arguments) -> Result<()> {
    let Tuned { cell, layout, weights, mut config, method, trainables, attachment, classes } =
        Tuned::open(&arguments.cell)?;
    let merged = merge::merge(&layout, &weights, &attachment, &trainables, 0)?;
    if layout.head.is_some() {
        config["num_classes"] = classes.into();
    }
    write_tensors(&arguments.output, merged.iter(), ("config", config.to_string()), Kind::Float)?;
    output::line(format_args!(
        "{}: {} for {}",
        arguments.output.display(),
        method.label(),
        cell.set_label()
    ))?;
    Ok(())
}
