//! `san export` and `san import`: adapters in the format of Hugging Face's peft.

use std::path::PathBuf;

use anyhow::Result;
use runner::error::RunError;
use runner::resources::Resources;
use san_core::adapters::file::{self as adapter_file, AdapterHeader};
use san_core::adapters::peft;
use san_core::methods;
use tch::{Device, no_grad};

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
    let (model_spec, weights) = (base.model_spec(), base.weights());
    let mut read = peft::import(&arguments.adapter, model_spec)?;
    let classes = match &model_spec.head {
        None => 0,
        Some(head) => {
            // Without `modules_to_save`, peft leaves the model's own head in place.
            for name in head.tensors() {
                if let (false, Some(own)) = (read.tensors.contains_key(&name), base.head_tensor(&name)) {
                    read.tensors.insert(name, own.shallow_clone());
                }
            }
            let [_, bias] = head.tensors();
            let classes = read.tensors.get(&bias).and_then(|bias| bias.size().first().copied());
            classes.ok_or_else(|| RunError::Missing {
                what: format!("the head `{}`", head.name),
                reason: format!(
                    "{} was saved without `modules_to_save`, and the weights of {} have no head",
                    arguments.adapter.display(),
                    arguments.backbone
                ),
            })?
        }
    };
    let method = methods::find(&read.method, read.options)?;
    let (trainables, _) = methods::prepare(&*method, &[], model_spec, weights, classes, &[0], Device::Cpu)?;
    for (name, tensor) in &read.tensors {
        let target = match trainables.get(name) {
            Ok(trained) => trained.f_get(0)?,
            Err(_) => trainables.constant(name)?,
        };
        if target.size() != tensor.size() {
            let place = arguments.adapter.display().to_string();
            let (found, expected) = (tensor.size(), target.size());
            return Err(san_core::Error::WrongShape { name: name.clone(), place, found, expected }.into());
        }
        no_grad(|| target.detach().f_copy_(tensor).map(drop))?;
    }
    let header = AdapterHeader {
        method: read.method,
        options: method.options()?.into(),
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
