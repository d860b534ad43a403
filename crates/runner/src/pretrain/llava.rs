//! Trains the bundled vision-language model on captioned images: its projector from scratch, its language model from
//! the bundled one. Each step includes plain text too, or the model would forget it. A model that continues from a file
//! can answer right after a question; it learns to skip lines between a question and the answer, which is slow to learn at first.

use anyhow::{Result, bail};
use backbones::registry::BundledLlava;
use backbones::weights::Target;
use data_loaders::CaptionStream;
use data_loaders::TextStream;
use data_loaders::vl::Template;
use san_core::adapters::merge::merge;
use san_core::io::safetensors::write_tensors;
use san_core::methods;
use san_core::nn::builder::ModelBuilder;
use tch::{Kind, Tensor};

use crate::models::picture_text::PictureText;
use crate::models::reader::ReaderArchitecture;
use crate::models::{LoadedBackbone, LoadedLanguageModel};
use crate::pretrain::caption_batch::CaptionBatch;
use crate::pretrain::language::{self, ROW};
use crate::pretrain::stream::train;
use crate::pretrain::{Start, Training};
use crate::train::trainer::RunControl;

/// Captions per row of plain text.
const CAPTIONS_A_ROW: usize = 12;
/// Captions of the final evaluation, from a stream that no step trains on.
const HELD_OUT: usize = 2048;
/// The seed of that stream.
const HELD_OUT_SEED: u64 = u64::MAX;

/// A step's captioned images and rows of text.
struct Batch {
    captions: CaptionBatch,
    text: Vec<i64>,
}

/// Trains and writes projector and language model as f16.
pub(super) fn pretrain(
    training: &Training<'_>,
    files: BundledLlava,
    control: &mut RunControl<'_>,
) -> Result<String> {
    let Training { settings, device, output, .. } = *training;
    let name = settings.backbone.as_str();
    let size = bundled_size(files.tower)?;
    let tower = LoadedBackbone::load(files.tower, size, None, device)?;
    let target = Target { device, ..Target::default() };
    let language = LoadedLanguageModel::read(files.language, None, target)?;
    let mut start = LoadedLanguageModel::joined_llava(name, &tower, language, None, target)?;
    let joined = || Ok(start.weights.shallow_clone());
    let Start { weights, provenance } = Start::of(settings, &start.model_spec, device, joined)?;
    start.weights = weights;
    let ReaderArchitecture::Llava(architecture, tower) = &start.architecture else {
        bail!("`{name}` has no tower")
    };
    let method = methods::find("fft", serde_json::Map::new())?;
    let (trainables, adapters) =
        methods::prepare(&*method, &[], &start.model_spec, &start.weights, 0, &[settings.seed], device)?;
    let model = architecture.build(tower, &ModelBuilder::new(&start.weights, &adapters))?;
    let texts = PictureText::new(architecture, &start.tokenizer, start.end, Template::Plain)?;
    let draw = |seed: u64, step: u64, captions: usize| -> Result<Batch> {
        let stream = match settings.from {
            None => CaptionStream::new(seed),
            Some(_) => CaptionStream::with_lines(seed),
        };
        let first = step * captions as u64;
        let rows = (captions / CAPTIONS_A_ROW).max(1);
        Ok(Batch {
            captions: CaptionBatch::draw(stream, first, captions, size, &texts)?,
            text: language::rows(&start.tokenizer, TextStream::new(seed), step * rows as u64, rows)?,
        })
    };
    let text_loss = |text: &[i64]| -> Result<Tensor> {
        let text = Tensor::f_from_slice(text)?.f_view([-1, ROW as i64])?.f_to_device(device)?;
        Ok(language::loss(model.language(), &text))
    };
    let step_loss = |Batch { captions, text }: &Batch| -> Result<Tensor> {
        Ok(captions.read(&model, device)?.loss()? + text_loss(text)?)
    };
    let draw_step = |step: u64| draw(settings.seed, step, settings.batch_size);
    let trainables = train(training, trainables, draw_step, step_loss, control)?;

    let held_out = draw(HELD_OUT_SEED, 0, HELD_OUT)?;
    let _guard = tch::no_grad_guard();
    let prediction = held_out.captions.read(&model, device)?;
    let (captions, answered) = (f64::try_from(prediction.loss()?)?, prediction.answered()?);
    let text = f64::try_from(text_loss(&held_out.text)?)?;
    let merged = merge(&start.model_spec, &start.weights, &adapters, &trainables, 0)?;
    let config = serde_json::json!({
        "architecture": name,
        "model_args": start.architecture.published_config()?,
        "pretraining": provenance,
        "held_out_loss": {"captions": captions, "text": text},
        "held_out_answered": answered,
    });
    write_tensors(output, merged.iter(), ("config", config.to_string()), Kind::Half)?;
    let answered: Vec<String> =
        answered.iter().map(|(kind, share)| format!("{kind} {:.0} %", 100.0 * share)).collect();
    Ok(format!(
        "held out: {captions:.3} nats per token of captions and {text:.3} of text; answered correctly: {}",
        answered.join(", ")
    ))
}

/// Side of the images that a bundled tower takes.
fn bundled_size(tower: &str) -> Result<u32> {
    Ok(u32::try_from(backbones::registry::find(tower)?.architecture.image_size())?)
}
