//! `san merge`: merges a run's adapter into plain weights, in one file or in a folder that transformers loads.

use std::path::{Path, PathBuf};

use anyhow::Result;
use runner::io::files::{create_folder, write_atomically};
use runner::models::{BaseModel, LoadedLanguageModel};
use san_core::Weights;
use san_core::adapters::merge;
use san_core::io::safetensors::write_tensors;
use tch::Kind;

use crate::commands::trained_run::TrainedRun;

use super::output;

/// Options of `san merge`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    san merge results/runs/vtab/embedded/<run> --output merged.safetensors\n  \
    san merge results/runs/vl/paper/<run> --output merged   # a folder for transformers, vocabulary included")]
pub(crate) struct Arguments {
    /// Folder of a finished run.
    run: PathBuf,
    /// Where the merged f32 weights are written: a file *.safetensors or, for a language model, a folder.
    #[arg(long)]
    output: PathBuf,
}

pub(crate) fn merge(arguments: &Arguments) -> Result<()> {
    let TrainedRun { run, base, method, trainables, adapters, classes, .. } =
        TrainedRun::open(&arguments.run)?;
    let merged = merge::merge(base.model_spec(), base.weights(), &adapters, &trainables, 0)?;
    let is_file = arguments.output.extension().is_some_and(|extension| extension == "safetensors");
    match &base {
        BaseModel::Language(language) if !is_file => write_folder(&arguments.output, language, merged)?,
        _ => {
            let mut config = base.published_config()?;
            if base.model_spec().head.is_some() {
                config["num_classes"] = classes.into();
            }
            write_tensors(&arguments.output, merged.iter(), ("config", config.to_string()), Kind::Float)?;
        }
    }
    output::line(format_args!(
        "{}: {} for {}",
        arguments.output.display(),
        method.label()?,
        run.set_label()
    ))?;
    Ok(())
}

/// Writes `config.json`, the weights and the vocabulary under Hugging Face's names.
fn write_folder(folder: &Path, language: &LoadedLanguageModel, merged: Weights) -> Result<()> {
    let (config, tensors) = language.architecture.published(merged)?;
    create_folder(folder)?;
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_tensors(&folder.join("model.safetensors"), named, ("format", "pt".into()), Kind::Float)?;
    write_atomically(&folder.join("config.json"), config.to_string().as_bytes())?;
    for (name, text) in language.tokenizer.published()? {
        write_atomically(&folder.join(name), text.as_bytes())?;
    }
    Ok(())
}
