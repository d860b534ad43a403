//! The training objective of a group of language models: tokenised examples, split into as many micro-batches as memory
//! requires, and the loss on the tokens that they train on.
//!
//! Runs of different seeds have other examples in a step. In the stack, each run's are padded to the longest and the most
//! of any run; what is padded has no loss, so that a run computes what it computes alone.

use std::num::NonZeroUsize;

use anyhow::{Context as _, Result, bail};
use backbones::Error;
use backbones::checkpointing;
use data_loaders::text::{MASKED, PaddedBatch, PaddingSide, Sequences};
use san_core::Trainables;
use san_core::train::gradients::{GradientSink, GradientSum, differentiate};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

use super::data::TrainData;
use super::protocol::LanguageProtocol;
use crate::models::reader::Reader;
use crate::train::task::{StepExamples, StepPosition};

/// Held-out examples in a forward pass: the usual number of Hugging Face's `Trainer`. Their mean losses are averaged, so
/// that the number has an effect.
pub(super) const HELD_OUT_BATCH: usize = 8;

/// For tests: no memory for micro-batches of more sequences than this number.
const PRETENDED_LIMIT: &str = "SAN_PRETENDED_OUT_OF_MEMORY";

/// The training examples of a group of language models, and the current batch.
pub(crate) struct Objective {
    pub(crate) protocol: LanguageProtocol,
    pub(crate) batch_size: usize,
    pub(crate) seeds: Vec<u64>,
    pub(crate) model: Reader,
    pub(crate) data: TrainData,
    /// Examples that are not trained on, in ascending order.
    pub(crate) held_out: Vec<usize>,
    pub(crate) device: Device,
    pub(super) batch: Vec<Part>,
    /// The step whose images are read ahead.
    pub(super) expected: Option<StepPosition>,
}

/// A micro-batch: examples of a step that are computed together.
pub(crate) struct Part {
    /// `[K * examples, length]`, padded on the right.
    pub(crate) tokens: Tensor,
    /// Positions in the flattened `[K * examples, length - 1]` whose next token is predicted, run by run.
    pub(crate) places: Tensor,
    /// The number of these positions of each run.
    pub(crate) predicted: Vec<i64>,
    /// The vision tower's features of the examples' images.
    pub(crate) images: Option<Tensor>,
    /// The index of the text within its example, for each token, `[K * examples, length]`; `None` if every example is a
    /// single text.
    pub(crate) texts: Option<Tensor>,
    /// Examples and tokens of each run before padding to those of the others; `None` if all are equal.
    pub(crate) extents: Option<Vec<[i64; 2]>>,
}

impl Objective {
    /// The examples of each step of an epoch.
    pub(super) fn steps(&self, epoch: u64) -> Vec<StepExamples> {
        // The mean loss over zero tokens is undefined, and batches are grouped by length: the examples whose answers
        // were truncated would end up in the same batch.
        let is_taught = |place: &usize| {
            self.data.examples[*place].teaches() && self.held_out.binary_search(place).is_err()
        };
        let taught: Vec<usize> = (0..self.data.examples.len()).filter(is_taught).collect();
        let lengths: Vec<usize> =
            taught.iter().map(|&place| self.data.examples[place].tokens.len()).collect();
        let pictured: Vec<bool> = taught.iter().map(|&place| self.data.images.has_images(place)).collect();
        let sequences = Sequences { lengths: &lengths, pictured: &pictured };
        let LanguageProtocol { batching, .. } = self.protocol;
        let limits = self.protocol.batch_limits(self.batch_size);
        let by_run: Vec<_> =
            self.seeds.iter().map(|&seed| batching.batches(sequences, limits, seed, epoch)).collect();
        let of_run = |batch: &Vec<usize>| batch.iter().map(|&place| taught[place]).collect();
        let steps = by_run.first().map_or(0, Vec::len);
        (0..steps).map(|step| by_run.iter().map(|batches| of_run(&batches[step])).collect()).collect()
    }

    /// Number of rows or conversations that are trained on.
    pub(super) fn rows(&self) -> usize {
        let texts = |&place: &usize| self.data.examples[place].branches.len().max(1);
        self.data.truncation.rows.saturating_sub(self.held_out.iter().map(texts).sum())
    }

    /// The mean loss of each run on the held-out examples: over batches, each weighted by its examples.
    pub(super) fn held_out_losses(&self) -> Result<Vec<f64>> {
        let mut sum = Tensor::f_zeros([self.seeds.len() as i64], (Kind::Double, self.device))?;
        for examples in self.held_out.chunks(HELD_OUT_BATCH) {
            let own = vec![examples.to_vec(); self.seeds.len()];
            let part = self.part(&own, &vec![examples[0]; self.seeds.len()])?;
            let losses = no_grad(|| losses(&self.model, &part))?.f_to_kind(Kind::Double)?;
            sum += losses * examples.len() as f64;
        }
        let means = sum.f_div_scalar(self.held_out.len() as f64)?;
        Ok(Vec::try_from(means.f_to_device(Device::Cpu)?)?)
    }

    /// Assembles the batch of a step.
    pub(super) fn load(&mut self, examples: &[Vec<usize>], position: StepPosition) -> Result<()> {
        if self.data.images.reads_ahead() {
            self.expect(position)?;
        }
        let micro_batches = self.micro_batches(examples);
        self.batch = micro_batches.iter().map(|(own, spare)| self.part(own, spare)).collect::<Result<_>>()?;
        Ok(())
    }

    /// Has the images of the rest of the epoch read ahead, unless this is done already.
    fn expect(&mut self, position: StepPosition) -> Result<()> {
        let StepPosition { epoch, step } = position;
        if self.expected != Some(position) {
            let before: usize = (0..epoch).map(|epoch| self.steps(epoch).len()).sum();
            let rest = self.steps(epoch).into_iter().skip(usize::try_from(step)? - before);
            let padded = |(own, spare): &(StepExamples, Vec<usize>)| padded(own, spare);
            let batches: Vec<Vec<usize>> = rest
                .flat_map(|examples| self.micro_batches(&examples).iter().map(padded).collect::<Vec<_>>())
                .collect();
            self.data.images.expect(&batches)?;
        }
        self.expected = Some(StepPosition { epoch, step: step + 1 });
        Ok(())
    }

    /// The examples of each run in each micro-batch of a step, and an example of each run to pad those of others with.
    fn micro_batches(&self, examples: &[Vec<usize>]) -> Vec<(StepExamples, Vec<usize>)> {
        let most = examples.iter().map(Vec::len).max().unwrap_or(0);
        let size = self.protocol.memory.micro_batch_size.map_or(most, NonZeroUsize::get);
        let part = |first: usize| {
            let of_run = |all: &Vec<usize>| all[first.min(all.len())..(first + size).min(all.len())].to_vec();
            let spare = examples.iter().filter_map(|all| all.last().copied()).collect();
            (examples.iter().map(of_run).collect(), spare)
        };
        (0..most).step_by(size.max(1)).map(part).collect()
    }

    /// Losses `[K]` and gradient `[K, P]` of the batch: the mean over its micro-batches, weighted by the number of
    /// predicted tokens.
    pub(super) fn gradient(&self, trainables: &Trainables) -> Result<(Tensor, Tensor)> {
        let mut sum: Option<(Tensor, Tensor)> = None;
        for (part, shares) in self.parts(trainables) {
            let mut gradient = GradientSum::new(trainables);
            let losses = self.gradients_of_part(part, trainables, &mut gradient)?;
            let gradient = gradient.finish()?;
            if self.batch.len() == 1 {
                return Ok((losses, gradient));
            }
            let shares = Tensor::f_from_slice(&shares)?.f_to_device(self.device)?;
            let weighted = (losses.f_mul(&shares)?, gradient.f_mul(&shares.f_unsqueeze(1)?)?);
            sum = Some(match sum {
                None => weighted,
                Some((losses, gradients)) => (losses + weighted.0, gradients + weighted.1),
            });
        }
        sum.context("no batch has been loaded")
    }

    /// The same for a single run, with the gradient of each tensor passed to `sink`.
    pub(super) fn gradients(&self, trainables: &Trainables, sink: &mut dyn GradientSink) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (part, shares) in self.parts(trainables) {
            let share = f64::from(shares[0]);
            let losses = self.gradients_of_part(part, trainables, &mut Weighted { share, sink })?;
            let weighted = losses.f_mul_scalar(share)?;
            sum = Some(match sum {
                None => weighted,
                Some(losses) => losses.f_add(&weighted)?,
            });
        }
        sum.context("no batch has been loaded")
    }

    /// Whether the gradients of one block are passed on before those of the next are computed.
    pub(super) fn streams_gradients(&self) -> bool {
        self.protocol.memory.gradient_checkpointing && self.batch.len() == 1
    }

    /// The micro-batches, each set as the current one of the pass, with the share of each run's predicted tokens that
    /// are in it.
    fn parts(&self, trainables: &Trainables) -> impl Iterator<Item = (&Part, Vec<f32>)> {
        let mut all = vec![0; self.seeds.len()];
        for part in &self.batch {
            all.iter_mut().zip(&part.predicted).for_each(|(all, predicted)| *all += predicted);
        }
        let pass = trainables.pass().clone();
        (0..).zip(&self.batch).map(move |(number, part)| {
            pass.set_micro_batch(number);
            pass.set_extents(part.extents.clone());
            #[allow(clippy::cast_possible_truncation)]
            let share = |(predicted, all): (&i64, &i64)| (*predicted as f64 / *all as f64) as f32;
            (part, part.predicted.iter().zip(&all).map(share).collect())
        })
    }

    /// The examples of each run; `spare` has an example of each run.
    fn part(&self, own: &[Vec<usize>], spare: &[usize]) -> Result<Part> {
        let most = own.iter().map(Vec::len).max().unwrap_or(0);
        let examples = padded(own, spare);
        let all: Vec<_> = examples.iter().map(|&row| &self.data.examples[row]).collect();
        let branched = all.iter().any(|example| !example.branches.is_empty());
        // Padding is on the right: earlier tokens never attend to it, so no mask is needed.
        let batch = PaddedBatch::new(all.iter().copied(), 0, PaddingSide::Right);
        let columns = batch.columns;
        let is_predicted = |place: &usize| !place.is_multiple_of(columns) && batch.labels[*place] != MASKED;
        let hidden_before = |place: usize| (place - place / columns - 1) as i64;
        let (mut places, mut predicted, mut extents) = (Vec::new(), Vec::new(), Vec::new());
        for (run, own) in own.iter().enumerate() {
            let first = run * most * columns;
            let before = places.len();
            places.extend((first..first + own.len() * columns).filter(is_predicted).map(hidden_before));
            predicted.push((places.len() - before) as i64);
            let longest = own.iter().map(|&row| self.data.examples[row].tokens.len()).max().unwrap_or(0);
            extents.push([own.len() as i64, longest as i64]);
        }
        let is_padded = extents.iter().any(|own| *own != [most as i64, columns as i64]);
        let table = |values: &[i64]| -> Result<Tensor> {
            let values = Tensor::f_from_slice(values)?.f_view([batch.rows as i64, columns as i64])?;
            Ok(values.f_to_device(self.device)?)
        };
        Ok(Part {
            tokens: table(&batch.tokens)?,
            places: Tensor::f_from_slice(&places)?.f_to_device(self.device)?,
            predicted,
            images: self.data.images.features(&examples)?,
            texts: branched.then(|| table(&batch.texts)).transpose()?,
            extents: is_padded.then_some(extents),
        })
    }

    fn gradients_of_part(
        &self,
        part: &Part,
        trainables: &Trainables,
        sink: &mut dyn GradientSink,
    ) -> Result<Tensor> {
        fail_beyond_pretended_limit(part.tokens.size()[0])?;
        if !self.protocol.memory.gradient_checkpointing {
            let losses = losses(&self.model, part)?;
            differentiate(trainables, &losses.f_sum(None::<Kind>)?, None, sink)?;
            return Ok(losses.f_detach()?);
        }
        let embedded = self.model.embed(&part.tokens, part.images.as_ref())?;
        let (language, texts) = (self.model.language(), part.texts.as_ref());
        let losses_of_hidden = |hidden: &Tensor| losses_after(&self.model, hidden, part);
        Ok(checkpointing::gradients(language, trainables, &embedded, texts, losses_of_hidden, sink)?)
    }
}

/// Fails as libtorch's allocator does, if a test wants it to.
fn fail_beyond_pretended_limit(sequences: i64) -> Result<()> {
    let limit = std::env::var(PRETENDED_LIMIT).ok().and_then(|limit| limit.parse::<i64>().ok());
    match limit {
        Some(limit) if sequences > limit => bail!("CUDA out of memory ({PRETENDED_LIMIT}={limit})"),
        _ => Ok(()),
    }
}

/// Gradients multiplied by the share of a micro-batch.
struct Weighted<'a> {
    share: f64,
    sink: &'a mut dyn GradientSink,
}

impl GradientSink for Weighted<'_> {
    fn take(&mut self, position: usize, mut gradient: Tensor) -> Result<(), san_core::Error> {
        if self.share != 1.0 {
            gradient = gradient.f_mul_scalar_(self.share)?;
        }
        self.sink.take(position, gradient)
    }
}

/// The examples of all runs, one run after the other, those of each padded with its `spare` one to the most of any run.
fn padded(own: &[Vec<usize>], spare: &[usize]) -> Vec<usize> {
    let most = own.iter().map(Vec::len).max().unwrap_or(0);
    let padded = |(own, spare): (&Vec<usize>, &usize)| {
        own.iter().copied().chain(std::iter::repeat_n(*spare, most - own.len())).collect::<Vec<_>>()
    };
    own.iter().zip(spare).flat_map(padded).collect()
}

/// Mean loss `[K]` of the tokens after the given positions of each run.
pub(super) fn losses(model: &Reader, part: &Part) -> Result<Tensor, Error> {
    let embedded = model.embed(&part.tokens, part.images.as_ref())?;
    losses_after(model, &model.language().hidden(&embedded, part.texts.as_ref(), None), part)
}

/// The same from the last block's output. Logits are computed for these positions only, since the vocabulary is large.
fn losses_after(model: &Reader, hidden: &Tensor, part: &Part) -> Result<Tensor, Error> {
    let Part { tokens, places, predicted, .. } = part;
    let length = tokens.size()[1];
    let hidden = hidden.f_narrow(1, 0, length - 1)?.f_flatten(0, 1)?.f_index_select(0, places)?;
    let next = tokens.f_narrow(1, 1, length - 1)?.f_flatten(0, 1)?.f_index_select(0, places)?;
    let logits = model.language().logits(&hidden);
    let losses = logits.f_cross_entropy_loss(&next, None::<Tensor>, Reduction::None, -100, 0.0)?;
    let of_runs = losses.f_split_with_sizes(predicted.as_slice(), 0)?;
    // A run without examples in this part has the loss 0.
    let mean =
        |(losses, count): (&Tensor, &i64)| losses.f_sum(None::<Kind>)?.f_div_scalar((*count).max(1) as f64);
    let means = of_runs.iter().zip(predicted).map(mean).collect::<Result<Vec<_>, _>>()?;
    Ok(Tensor::f_stack(&means, 0)?)
}
