//! Pre-trains a bundled backbone on synthetic images, on synthetic text, or on captioned images.
//!
//! All come from endless streams: `data_loaders::PretrainSet`, whose classes differ from those of the `mini/` tasks,
//! `data_loaders::TextStream`, which does not use their prompt template (`language`), and
//! `data_loaders::CaptionStream`, mostly captions (`llava`). One thread generates data ahead of the thread that trains;
//! the result is a function of the seed and the settings.

mod caption_batch;
mod language;
mod llava;

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use anyhow::{Result, bail};
use backbones::registry;
use backbones::vision::Classifier;
use backbones::weights::Target;
use data_loaders::PretrainSet;
use indicatif::{ProgressBar, ProgressStyle};
use san_core::adapters::merge::merge;
use san_core::io::safetensors::{TensorFile, write_tensors};
use san_core::methods;
use san_core::spec::model::{HeadSpec, ModelSpec};
use san_core::train::adamw::{AdamW, AdamWSettings};
use san_core::train::schedule::Cosine;
use san_core::{Trainables, Weights};
use serde::Serialize;
use tch::{Device, Kind, Tensor, no_grad};

use crate::io::files::writing;
use crate::messages::message;
use crate::train::signals::StopFlag;

/// How a backbone is trained.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// Name in the registry.
    pub backbone: String,
    /// Optimiser steps.
    pub steps: u64,
    /// Images per step.
    pub batch_size: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Weight decay of matrices.
    pub weight_decay: f64,
    /// Seed of the images and the initial weights.
    pub seed: u64,
    /// A file of the same backbone to continue from, instead of initial weights.
    #[serde(skip)]
    pub from: Option<PathBuf>,
}

/// Images of the stream that are held out for the final evaluation.
const HELD_OUT: usize = 4096;

struct Batch {
    pixels: Vec<u8>,
    labels: Vec<u32>,
}

/// Trains and writes the weights as f16; returns a summary as text.
///
/// # Errors
/// When the backbone is unknown, the loss is not finite, the file cannot be written, or a signal came.
pub fn pretrain(settings: &Settings, device: Device, output: &Path, stop: &StopFlag) -> Result<String> {
    // Checked before hours of training: is there a folder to write to?
    let folder = output.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    writing(output, std::fs::read_dir(folder))?;
    if let Some((architecture, files)) = registry::bundled_language(&settings.backbone) {
        return language::pretrain(settings, device, &*architecture, files, output, stop);
    }
    match registry::bundled_llava(&settings.backbone) {
        Some((_, files)) => llava::pretrain(settings, device, files, output, stop),
        None => pretrain_images(settings, device, output, stop),
    }
}

fn pretrain_images(settings: &Settings, device: Device, output: &Path, stop: &StopFlag) -> Result<String> {
    let entry = registry::find(&settings.backbone)?;
    let size = entry.architecture.image_size();
    let stream = PretrainSet::new(settings.seed, u32::try_from(size)?);
    let model_spec = entry.architecture.model_spec(entry.name);
    let Start { weights: start, told } = Start::or_random(settings, &model_spec, device)?;
    let method = methods::find("fft", serde_json::Map::new())?;
    let (trainables, adapters) = methods::prepare(
        &*method,
        &[],
        &model_spec,
        &start,
        i64::from(stream.classes()),
        &[settings.seed],
        device,
    )?;
    let model = Classifier::new(&*entry.architecture, &model_spec, &start, &adapters, &trainables)?;
    let draw_step =
        |step: u64| draw(&stream, HELD_OUT as u64 + step * settings.batch_size as u64, settings.batch_size);
    let loss = |batch: &Batch| {
        let (images, labels) = tensors(batch, size, device);
        Ok(model.forward(&images).cross_entropy_for_logits(&labels))
    };
    train(settings, &trainables, draw_step, loss, stop)?;
    let accuracy = held_out_accuracy(&stream, &model, size, device);
    let mut merged = merge(&model_spec, &start, &adapters, &trainables, 0)?;
    for name in model_spec.head.iter().flat_map(HeadSpec::tensors) {
        merged.remove(&name);
    }
    let config = serde_json::json!({
        "architecture": entry.name,
        "model_args": entry.architecture.published_config()?,
        "pretraining": told,
        "held_out_accuracy": accuracy,
    });
    write_tensors(output, merged.iter(), ("config", config.to_string()), Kind::Half)?;
    Ok(format!("{:.1} % on images it was not trained on", 100.0 * accuracy))
}

/// What a training starts from.
struct Start {
    /// On the device.
    weights: Weights,
    /// The settings that are stored in the output file: if it continues from a file, with that file's checksum and
    /// settings.
    told: serde_json::Value,
}

impl Start {
    /// From the file that the settings name, or from `anew`. The file is read once, before hours of training.
    fn of(
        settings: &Settings,
        model_spec: &ModelSpec,
        device: Device,
        anew: impl FnOnce() -> Result<Weights>,
    ) -> Result<Self> {
        let mut told = serde_json::to_value(settings)?;
        let Some(path) = &settings.from else { return Ok(Self { weights: anew()?, told }) };
        let TensorFile { tensors, metadata, checksum } = TensorFile::read(path)?;
        let config = metadata.get("config").and_then(|text| serde_json::from_str(text).ok());
        let before = config.map(|config: serde_json::Value| config["pretraining"].clone());
        told["from"] = serde_json::json!({"checksum": checksum, "pretraining": before});
        let target = Target { device, ..Target::default() };
        let kept = tensors.into_iter().map(|(name, tensor)| Ok((name, target.keep(&tensor)?)));
        let weights = Weights::new(kept.collect::<Result<_>>()?);
        weights.check(model_spec, &path.display().to_string())?;
        Ok(Self { weights, told })
    }

    /// From the file, or with random weights.
    fn or_random(settings: &Settings, model_spec: &ModelSpec, device: Device) -> Result<Self> {
        Self::of(settings, model_spec, device, || {
            Ok(Weights::random(model_spec, settings.seed)?.to_device(device)?)
        })
    }
}

fn draw(stream: &PretrainSet, first: u64, count: usize) -> Batch {
    let mut batch = Batch { pixels: Vec::new(), labels: Vec::new() };
    stream.draw(first, count, &mut batch.pixels, &mut batch.labels);
    batch
}

/// Trains on the batches that `draw` makes, a few steps ahead in a separate thread.
fn train<B: Send>(
    settings: &Settings,
    trainables: &Trainables,
    draw: impl Fn(u64) -> B + Send,
    loss: impl Fn(&B) -> Result<Tensor>,
    stop: &StopFlag,
) -> Result<()> {
    let schedule = Cosine {
        base: settings.learning_rate,
        warmup_start: 0.0,
        warmup_steps: (settings.steps / 20).max(1),
        floor: 0.0,
        steps: settings.steps,
    };
    let decay = AdamWSettings { weight_decay: settings.weight_decay, ..AdamWSettings::default() };
    let mut optimiser = AdamW::new(trainables, decay)?;
    let bar = ProgressBar::new(settings.steps);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} steps, {eta} left, {msg}")?);
    let started = Instant::now();
    let (sender, batches) = sync_channel(8);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for step in 0..settings.steps {
                if sender.send(draw(step)).is_err() {
                    break; // the training ended early
                }
            }
        });
        // Moved in here, so that an early exit closes the channel and ends the other thread.
        let batches = batches;
        for (step, batch) in batches.iter().enumerate() {
            stop.check()?;
            let loss = loss(&batch)?;
            let gradient = trainables.gradient(&loss)?;
            let value = f64::try_from(&loss)?;
            if !value.is_finite() {
                bail!("the loss is not finite at step {step}; try a lower --learning-rate");
            }
            optimiser.step(trainables, &gradient, schedule.rate(step as u64))?;
            bar.inc(1);
            if step % 50 == 0 {
                bar.set_message(format!("loss {value:.3}"));
            }
            if bar.is_hidden() && step % 1000 == 0 {
                message(format_args!(
                    "step {step}: loss {value:.3}, {:.0} s",
                    started.elapsed().as_secs_f64()
                ));
            }
        }
        bar.finish_and_clear();
        Ok(())
    })
}

/// Images `[n, 3, size, size]` in -1..=1, and labels.
fn tensors(batch: &Batch, size: i64, device: Device) -> (Tensor, Tensor) {
    let images = Tensor::from_slice(&batch.pixels).view([-1, 3, size, size]);
    let labels: Vec<i64> = batch.labels.iter().map(|&label| i64::from(label)).collect();
    (
        images.to_device(device).to_kind(Kind::Float) / 127.5 - 1.0,
        Tensor::from_slice(&labels).to_device(device),
    )
}

fn held_out_accuracy(stream: &PretrainSet, model: &Classifier, size: i64, device: Device) -> f64 {
    let (images, labels) = tensors(&draw(stream, 0, HELD_OUT), size, device);
    let right = no_grad(|| model.forward(&images).argmax(1, false).eq_tensor(&labels));
    right.to_kind(Kind::Double).mean(None).double_value(&[])
}
