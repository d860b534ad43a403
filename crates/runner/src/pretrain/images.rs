//! Pre-trains a bundled image model on synthetic images.

use anyhow::Result;
use backbones::registry;
use backbones::vision::Classifier;
use data_loaders::PretrainSet;
use san_core::adapters::merge::merge;
use san_core::io::safetensors::write_tensors;
use san_core::methods;
use san_core::spec::model::HeadSpec;
use tch::{Device, Kind, Tensor, no_grad};

use crate::pretrain::stream::train;
use crate::pretrain::{Start, Training};
use crate::train::trainer::RunControl;

/// Images of the stream that are held out for the final evaluation.
const HELD_OUT: usize = 4096;

struct Batch {
    pixels: Vec<u8>,
    labels: Vec<u32>,
}

/// Trains and writes the weights as f16.
pub(super) fn pretrain(training: &Training<'_>, control: &mut RunControl<'_>) -> Result<String> {
    let Training { settings, device, output, .. } = *training;
    let entry = registry::find(&settings.backbone)?;
    let size = entry.architecture.image_size();
    let stream = PretrainSet::new(settings.seed, u32::try_from(size)?);
    let model_spec = entry.architecture.model_spec(entry.name);
    let Start { weights: start, provenance } = Start::or_random(settings, &model_spec, device)?;
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
    let draw_step = |step: u64| {
        let first = HELD_OUT as u64 + step * settings.batch_size as u64;
        Ok(draw(&stream, first, settings.batch_size))
    };
    let loss = |batch: &Batch| {
        let (images, labels) = tensors(batch, size, device);
        Ok(model.forward(&images).cross_entropy_for_logits(&labels))
    };
    let trainables = train(training, trainables, draw_step, loss, control)?;
    let accuracy = held_out_accuracy(&stream, &model, size, device);
    let mut merged = merge(&model_spec, &start, &adapters, &trainables, 0)?;
    for name in model_spec.head.iter().flat_map(HeadSpec::tensors) {
        merged.remove(&name);
    }
    let config = serde_json::json!({
        "architecture": entry.name,
        "model_args": entry.architecture.published_config()?,
        "pretraining": provenance,
        "held_out_accuracy": accuracy,
    });
    write_tensors(output, merged.iter(), ("config", config.to_string()), Kind::Half)?;
    Ok(format!("{:.1} % on held-out images", 100.0 * accuracy))
}

fn draw(stream: &PretrainSet, first: u64, count: usize) -> Batch {
    let mut batch = Batch { pixels: Vec::new(), labels: Vec::new() };
    stream.draw(first, count, &mut batch.pixels, &mut batch.labels);
    batch
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
