//! Pre-trains a bundled language model with its bundled vocabulary (tools/micro_tokenizer.py).

use std::path::Path;

use anyhow::Result;
use backbones::language::{LanguageArchitecture, LanguageModel};
use backbones::registry::BundledLanguage;
use backbones::tokenizer::Tokenizer;
use data_loaders::TextStream;
use san_core::adapters::merge::merge;
use san_core::io::safetensors::write_tensors;
use san_core::methods;
use san_core::nn::builder::ModelBuilder;
use tch::{Kind, Tensor, no_grad};

use crate::pretrain::stream::train;
use crate::pretrain::{Start, Training};
use crate::train::trainer::RunControl;

/// Tokens per row of a batch.
pub(super) const ROW: usize = 128;
/// Rows of the final evaluation, from passages that no step trains on.
const HELD_OUT: usize = 256;
/// The seed of the stream that they come from.
const HELD_OUT_SEED: u64 = u64::MAX;

/// Trains and writes the weights as f16.
pub(super) fn pretrain(
    training: &Training<'_>,
    architecture: &dyn LanguageArchitecture,
    files: BundledLanguage,
    control: &mut RunControl<'_>,
) -> Result<String> {
    let Training { settings, device, output, .. } = *training;
    let stream = TextStream::new(settings.seed);
    let name = settings.backbone.as_str();
    let tokenizer = Tokenizer::parse(files.vocabulary, Path::new(&format!("assets/{name}.tokenizer.json")))?;
    let model_spec = architecture.model_spec(name);
    let Start { weights: start, provenance } = Start::or_random(settings, &model_spec, device)?;
    let method = methods::find("fft", serde_json::Map::new())?;
    let (trainables, adapters) =
        methods::prepare(&*method, &[], &model_spec, &start, 0, &[settings.seed], device)?;
    let model = architecture.build(&ModelBuilder::new(&start, &adapters))?;
    let loss = |rows: &Vec<i64>| {
        let rows = Tensor::f_from_slice(rows)?.f_view([-1, ROW as i64])?.f_to_device(device)?;
        Ok(loss(&*model, &rows))
    };
    let draw = |step: u64| {
        let first = step * settings.batch_size as u64;
        rows(&tokenizer, stream, first, settings.batch_size)
    };
    let trainables = train(training, trainables, draw, loss, control)?;
    let held_out = rows(&tokenizer, TextStream::new(HELD_OUT_SEED), 0, HELD_OUT)?;
    let held_out = f64::try_from(no_grad(|| loss(&held_out))?)?;
    let merged = merge(&model_spec, &start, &adapters, &trainables, 0)?;
    let config = serde_json::json!({
        "architecture": name,
        "model_args": architecture.published_config()?,
        "pretraining": provenance,
        "held_out_loss": held_out,
    });
    write_tensors(output, merged.iter(), ("config", config.to_string()), Kind::Half)?;
    Ok(format!("{held_out:.3} nats per token on held-out text"))
}

/// Mean loss of the tokens of rows `[rows, ROW]`, except for the first token of each row.
pub(super) fn loss(model: &dyn LanguageModel, rows: &Tensor) -> Tensor {
    let length = ROW as i64 - 1;
    let scores = model.forward(&rows.narrow(1, 0, length), None);
    scores.flatten(0, 1).cross_entropy_for_logits(&rows.narrow(1, 1, length).flatten(0, 1))
}

/// `count` rows of [`ROW`] tokens, each a concatenation of its own passages; the last passage is truncated.
pub(super) fn rows(tokenizer: &Tokenizer, stream: TextStream, first: u64, count: usize) -> Result<Vec<i64>> {
    /// Passages that are reserved for a row.
    const PASSAGES: u64 = 16;
    let end = tokenizer.end().map(i64::from);
    let mut tokens = Vec::with_capacity(count * ROW);
    for row in first..first + count as u64 {
        let from = tokens.len();
        let passages = (row * PASSAGES..(row + 1) * PASSAGES).map(|index| stream.passage(index));
        for passage in passages {
            if tokens.len() >= from + ROW {
                break;
            }
            let ids = tokenizer.encode(&passage)?;
            tokens.extend(ids.into_iter().map(i64::from).chain(end));
        }
        // Only a row of short passages is not full; without an end token, padding is as good as any.
        tokens.resize(from + ROW, end.unwrap_or_else(|| tokenizer.pad().into()));
    }
    Ok(tokens)
}
