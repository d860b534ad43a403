//! The training objective of a language model: tokenised examples, split into as many micro-batches as memory requires,
//! and the loss on the tokens that they train on.

use std::num::NonZeroUsize;

use anyhow::{Context as _, Result};
use backbones::Error;
use backbones::checkpointing;
use data_loaders::text::{MASKED, PaddedBatch, PaddingSide, training_batches};
use san_core::Trainables;
use tch::{Device, Reduction, Tensor};

use super::data::TrainData;
use super::protocol::LanguageProtocol;
use crate::models::reader::Reader;

/// The training examples of a language model, and the current batch.
pub(crate) struct Objective {
    pub(crate) protocol: LanguageProtocol,
    pub(crate) batch_size: usize,
    pub(crate) seed: u64,
    pub(crate) model: Reader,
    pub(crate) data: TrainData,
    pub(crate) device: Device,
    pub(super) batch: Vec<Part>,
}

/// A micro-batch: examples of a step that are computed together.
pub(crate) struct Part {
    /// `[examples, length]`, padded on the right.
    pub(crate) tokens: Tensor,
    /// Positions `[n]` in the flattened `[examples, length - 1]` whose next token is predicted.
    pub(crate) places: Tensor,
    /// The vision tower's features of the examples' images.
    pub(crate) images: Option<Tensor>,
    /// The index of the text within its example, for each token, `[examples, length]`; `None` if every example is a
    /// single text.
    pub(crate) texts: Option<Tensor>,
}

impl Objective {
    /// The examples of each step of an epoch.
    pub(super) fn steps(&self, epoch: u64) -> Vec<Vec<usize>> {
        // The mean loss over zero tokens is undefined, and batches are grouped by length: the examples whose answers
        // were truncated would end up in the same batch.
        let examples = self.data.examples.iter().enumerate().filter(|(_, example)| example.teaches());
        let (taught, lengths): (Vec<usize>, Vec<usize>) =
            examples.map(|(place, example)| (place, example.tokens.len())).unzip();
        let limits = self.protocol.batch_limits(self.batch_size);
        let batches = training_batches(&lengths, limits, self.seed, epoch);
        batches.into_iter().map(|batch| batch.into_iter().map(|place| taught[place]).collect()).collect()
    }

    /// Assembles the batch of a step.
    pub(super) fn load(&mut self, examples: &[usize]) -> Result<()> {
        let size = self.protocol.memory.micro_batch_size.map_or(examples.len(), NonZeroUsize::get);
        self.batch = examples.chunks(size).map(|some| self.part(some)).collect::<Result<_>>()?;
        Ok(())
    }

    /// Loss and gradient of the batch: the mean over its micro-batches, weighted by the number of predicted tokens.
    pub(super) fn gradient(&self, trainables: &Trainables) -> Result<(Tensor, Tensor)> {
        let parts = &self.batch;
        let predicted = |part: &Part| part.places.numel() as f64;
        let all: f64 = parts.iter().map(predicted).sum();
        let mut sum: Option<(Tensor, Tensor)> = None;
        for (number, part) in (0..).zip(parts) {
            trainables.pass().set_micro_batch(number);
            let (loss, gradient) = self.gradient_of_part(part, trainables)?;
            let share = predicted(part) / all;
            let weighted = (loss.f_detach()? * share, gradient * share);
            sum = Some(match sum {
                None => weighted,
                Some((losses, gradients)) => (losses + weighted.0, gradients + weighted.1),
            });
        }
        sum.context("no batch has been loaded")
    }
}

impl Objective {
    fn part(&self, examples: &[usize]) -> Result<Part> {
        let rows = examples.iter().map(|&row| &self.data.examples[row]);
        let branched = rows.clone().any(|example| !example.branches.is_empty());
        // Padding is on the right: earlier tokens never attend to it, so no mask is needed.
        let batch = PaddedBatch::new(rows, 0, PaddingSide::Right);
        let columns = batch.columns;
        let is_predicted = |place: &usize| !place.is_multiple_of(columns) && batch.labels[*place] != MASKED;
        let loss_of_hidden = |place: usize| (place - place / columns - 1) as i64;
        let places: Vec<i64> = (0..batch.labels.len()).filter(is_predicted).map(loss_of_hidden).collect();
        let table = |values: &[i64]| -> Result<Tensor> {
            let values = Tensor::f_from_slice(values)?.f_view([batch.rows as i64, columns as i64])?;
            Ok(values.f_to_device(self.device)?)
        };
        Ok(Part {
            tokens: table(&batch.tokens)?,
            places: Tensor::f_from_slice(&places)?.f_to_device(self.device)?,
            images: self.data.images.features(examples)?,
            texts: branched.then(|| table(&batch.texts)).transpose()?,
        })
    }

    fn gradient_of_part(&self, part: &Part, trainables: &Trainables) -> Result<(Tensor, Tensor)> {
        if !self.protocol.memory.gradient_checkpointing {
            let loss = loss(&self.model, part)?;
            let gradient = trainables.gradient(&loss)?;
            return Ok((loss, gradient));
        }
        let embedded = self.model.embed(&part.tokens, part.images.as_ref())?;
        let (language, texts) = (self.model.language(), part.texts.as_ref());
        let loss_of_hidden = |hidden: &Tensor| loss_after(&self.model, hidden, part);
        Ok(checkpointing::gradient(language, trainables, &embedded, texts, loss_of_hidden)?)
    }
}

/// Mean loss of the tokens after the given positions.
pub(super) fn loss(model: &Reader, part: &Part) -> Result<Tensor, Error> {
    let embedded = model.embed(&part.tokens, part.images.as_ref())?;
    loss_after(model, &model.language().hidden(&embedded, part.texts.as_ref(), None), part)
}

/// The same from the last block's output. Logits are computed for these positions only, since the vocabulary is large.
fn loss_after(model: &Reader, hidden: &Tensor, Part { tokens, places, .. }: &Part) -> Result<Tensor, Error> {
    let length = tokens.size()[1];
    let hidden = hidden.f_narrow(1, 0, length - 1)?.f_flatten(0, 1)?.f_index_select(0, places)?;
    let next = tokens.f_narrow(1, 1, length - 1)?.f_flatten(0, 1)?.f_index_select(0, places)?;
    let logits = model.language().logits(&hidden);
    Ok(logits.f_cross_entropy_loss(&next, None::<Tensor>, Reduction::Mean, -100, 0.0)?)
}
