//! `san export` and `san import`: adapters in the format of Hugging Face's peft.

use std::path::PathBuf;

use anyhow::Result;
use runner::models::SavedAdapter;
use runner::resources::Resources;
use san_core::adapters::file::{self as adapter_file, AdapterHeader};
use san_core::adapters::peft;
use san_core::methods;
use tch::Device;

use crate::commands::trained_run::TrainedRun;

use super::output;

/// Options of `san export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  san export results/runs/vtab/embedded/<run> --output peft_adapter")]
pub(crate) struct ExportArguments {
    /// Folder of a finished run whose method peft supports.
    run: PathBuf,
    /// Folder for adapter_config.json and adapter_model.safetensors.
    #[arg(long)]
    output: PathBuf,
}

pub(crate) fn export(arguments: &ExportArguments) -> Result<()> {
    let TrainedRun { run, base, method, modules_to_save, trainables, .. } = TrainedRun::open(&arguments.run)?;
    peft::export(
        &arguments.output,
        &*method,
        &modules_to_save,
        base.model_spec(),
        base.weights(),
        &trainables,
        0,
    )?;
    output::line(format_args!(
        "{}: {} for {}",
        arguments.output.display(),
        method.label()?,
        run.set_label()
    ))?;
    Ok(())
}

/// Options of `san import`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  san import peft_adapter --backbone vit_micro --output adapter.safetensors"
)]
pub(crate) struct ImportArguments {
    /// Folder saved by peft.
    adapter: PathBuf,
    /// The model that it was trained on: an image model, a language model, or one of both.
    #[arg(long)]
    backbone: String,
    /// Where the adapter file is written.
    #[arg(long)]
    output: PathBuf,
}

pub(crate) fn import(arguments: &ImportArguments) -> Result<()> {
    let base = Resources::new(Device::Cpu).models.base(&arguments.backbone)?;
    let saved = SavedAdapter::read(&arguments.adapter, &base)?;
    saved.check_head(&base)?;
    let (method, classes) = (saved.method()?, saved.classes);
    let (trainables, _) =
        methods::prepare(&*method, &[], base.model_spec(), base.weights(), classes, &[0], Device::Cpu)?;
    saved.copy_into(&base, classes, &trainables)?;
    let header = AdapterHeader {
        method: saved.method,
        options: saved.options.into(),
        backbone: arguments.backbone.clone(),
        base_checksum: base.checksum().to_owned(),
        classes,
    };
    adapter_file::write(&arguments.output, &header, &trainables)?;
    output::line(format_args!(
        "{}: {} on {}",
        arguments.output.display(),
        method.label()?,
        arguments.backbone
    ))?;
    Ok(())
}
