//! Trains the bundled model of vision and language: its projector from nothing, its language model from the bundled one,
//! on captioned pictures. Each step reads plain text too, or the model would forget it.

use std::path::Path;

use anyhow::{Result, bail};
use backbones::llava::Llava;
use backbones::registry::BundledLlava;
use backbones::weights::Target;
use data_loaders::text::{MASKED, PaddedBatch, PaddingSide, TextStream, Truncation};
use data_loaders::vl::{CaptionStream, Picture, PictureProtocol, Square, Template};
use data_loaders::{Filter, Normalisation};
use san_core::attachment::Scope;
use san_core::merge::merge;
use san_core::methods;
use san_core::weights::write_tensors;
use tch::{Device, Kind, Reduction, Tensor, no_grad};

use super::language::{self, ROW};
use super::{Settings, train};
use crate::context::{Context, LoadedLanguageModel};
use crate::picture_text::PictureText;
use crate::reader::ReaderArchitecture;
use crate::signals::StopFlag;

/// Captions for each row of plain text.
const CAPTIONS_A_ROW: usize = 4;
/// Captions of the last reading, from a stream that no step draws.
const HELD_OUT: usize = 512;
/// The seed of that stream.
const HELD_OUT_SEED: u64 = u64::MAX;
/// More tokens than any caption has.
const CUTOFF: usize = 256;

/// A step's captioned pictures and rows of text.
struct Batch {
    /// Normalised planes of the pictures.
    pixels: Vec<f32>,
    captions: PaddedBatch,
    text: Vec<i64>,
}

/// Trains and writes projector and language model as f16.
pub(super) fn pretrain(
    settings: &Settings,
    files: BundledLlava,
    output: &Path,
    stop: &StopFlag,
) -> Result<String> {
    let name = settings.backbone.as_str();
    let mut context = Context::new(Device::Cpu);
    let size = bundled_size(files.tower)?;
    let tower = context.backbone(files.tower, size)?;
    let language = LoadedLanguageModel::read(files.language, None, Target::default())?;
    let start = LoadedLanguageModel::joined_llava(name, &tower, language, None, Target::default())?;
    let ReaderArchitecture::Llava(architecture, tower) = &start.architecture else {
        bail!("`{name}` has no tower")
    };
    let method = methods::find("fft", serde_json::Map::new())?;
    let (trainables, attachment) =
        methods::prepare(&*method, &start.layout, &start.weights, 0, &[settings.seed], Device::Cpu)?;
    let model = architecture.build(tower, &Scope::new(&start.weights, &attachment))?;
    let texts = PictureText::new(architecture, &start.tokenizer, start.end, Template::Plain)?;
    let picture = PictureProtocol {
        image_size: size,
        square: Square::Stretch,
        filter: Filter::Bilinear,
        normalisation: Normalisation::Half,
    };
    let draw = |seed: u64, step: u64, captions: usize| -> Result<Batch> {
        let (stream, first) = (CaptionStream::new(seed), step * captions as u64);
        let drawn: Vec<_> =
            (first..first + captions as u64).map(|index| stream.conversation(index, size)).collect();
        let pictures: Vec<&Picture> = drawn.iter().filter_map(|one| one.picture.as_ref()).collect();
        let pixels = picture.read(name, &pictures)?;
        let examples = drawn.iter().map(|one| texts.example(one, CUTOFF, &mut Truncation::default()));
        let examples = examples.collect::<Result<Vec<_>>>()?;
        let rows = captions / CAPTIONS_A_ROW;
        let text = language::rows(&start.tokenizer, TextStream::new(seed), step * rows as u64, rows);
        Ok(Batch { pixels, captions: PaddedBatch::new(&examples, 0, PaddingSide::Right), text })
    };
    let losses = |batch: &Batch| -> Result<(Tensor, Tensor)> {
        let text = Tensor::f_from_slice(&batch.text)?.f_view([-1, ROW as i64])?;
        Ok((captions_loss(&model, batch, i64::from(size))?, language::loss(model.language(), &text)))
    };
    let step_loss = |batch: &Result<Batch>| -> Result<Tensor> {
        let (captions, text) = losses(batch.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?)?;
        Ok(captions + text)
    };
    let draw_step = |step: u64| draw(settings.seed, step, settings.batch_size);
    train(settings, &trainables, draw_step, step_loss, stop)?;
    let (captions, text) = no_grad(|| losses(&draw(HELD_OUT_SEED, 0, HELD_OUT)?))?;
    let (captions, text) = (f64::try_from(captions)?, f64::try_from(text)?);
    let merged = merge(&start.layout, &start.weights, &attachment, &trainables, 0)?;
    let config = serde_json::json!({
        "architecture": name,
        "model_args": start.architecture.published_config(),
        "pretraining": settings,
        "held_out_loss": {"captions": captions, "text": text},
    });
    write_tensors(output, merged.iter(), ("config", config.to_string()), Kind::Half)?;
    Ok(format!("{captions:.3} nats a token on captions and {text:.3} on text that it was not trained on"))
}

/// Side of the images that a bundled tower reads.
fn bundled_size(tower: &str) -> Result<u32> {
    Ok(u32::try_from(backbones::registry::find(tower)?.architecture.image_size())?)
}

/// Mean loss of the captions' tokens.
fn captions_loss(model: &Llava, Batch { pixels, captions, .. }: &Batch, size: i64) -> Result<Tensor> {
    let seen = model.see(&Tensor::f_from_slice(pixels)?.f_view([-1, 3, size, size])?);
    let table = |values: &[i64]| Tensor::f_from_slice(values)?.f_view([-1, captions.columns as i64]);
    let (tokens, labels) = (table(&captions.tokens)?, table(&captions.labels)?);
    let length = captions.columns as i64 - 1;
    let scores = model.forward(&tokens, Some(&seen), None)?.f_narrow(1, 0, length)?.f_flatten(0, 1)?;
    let labels = labels.f_narrow(1, 1, length)?.f_flatten(0, 1)?;
    Ok(scores.f_cross_entropy_loss(&labels, None::<Tensor>, Reduction::Mean, MASKED, 0.0)?)
}
