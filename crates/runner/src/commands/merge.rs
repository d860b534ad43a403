//! `san merge`: a cell's adapter becomes plain weights.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use runner::cell::Cell;
use runner::context::Context;
use runner::error::RunError;
use san_core::weights::write_tensors;
use san_core::{adapter_file, merge, methods};
use tch::{Device, Kind};

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
    let path = arguments.cell.join("cell.json");
    let text = std::fs::read(&path).map_err(|error| RunError::Missing {
        what: format!("the cell {}", arguments.cell.display()),
        reason: format!("{}: {error}", path.display()),
    })?;
    let cell: Cell =
        serde_json::from_slice(&text).with_context(|| format!("{} describes no cell", path.display()))?;
    let backbone = Context::new(Device::Cpu).backbone(&cell.backbone, cell.protocol.image.image_size)?;
    let method = cell.method()?;
    let adapter = arguments.cell.join(report::record::ADAPTER_FILE);
    let classes = adapter_file::read_header(&adapter)?.classes;
    let (layout, weights) = (&backbone.layout, &backbone.weights);
    let (trainables, attachment) =
        methods::prepare(&*method, layout, weights, classes, &[cell.seed], Device::Cpu)?;
    adapter_file::read_into(&adapter, &backbone.checksum, &trainables)?;
    let merged = merge::merge(layout, weights, &attachment, &trainables, 0)?;
    let mut config = backbone.architecture.published_config();
    config["num_classes"] = classes.into();
    write_tensors(&arguments.output, merged.iter(), ("config", config.to_string()), Kind::Float)?;
    println!("{}: {} for {}", arguments.output.display(), method.label(), cell.set_label());
    Ok(())
}
