//! How many steps, tokens and generated tokens a run of a language task has, from the lengths of some of its texts.

use data_loaders::text::{BatchLimits, Sequences, evaluation_batches};

use super::objective::HELD_OUT_BATCH;
use super::{AnswerDecoding, LanguageProtocol};
use crate::tasks::{EvaluatedTexts, Run, TextAmounts, Texts};

/// The most texts of a kind that are tokenised to know the lengths of all.
const SAMPLE: usize = 512;
/// Options of a question whose options are compared: from two to five.
const OPTIONS: f64 = 3.0;

/// The lengths of some texts, in tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lengths {
    /// Of training examples.
    pub(crate) examples: Vec<usize>,
    /// Whether each of them has an image.
    pub(crate) pictured: Vec<bool>,
    /// Their mean number of predicted tokens.
    pub(crate) predicted: f64,
    /// Of prompts.
    pub(crate) prompts: Vec<usize>,
    /// Of answers, with their end.
    pub(crate) answer: f64,
}

impl Lengths {
    /// Assumed lengths, the same for all texts.
    pub(crate) fn assumed(example: usize, predicted: usize, prompt: usize, answer: usize) -> Self {
        Self {
            examples: vec![example; SAMPLE],
            pictured: vec![true; SAMPLE],
            predicted: predicted as f64,
            prompts: vec![prompt; SAMPLE],
            answer: answer as f64,
        }
    }
}

/// Some of many, evenly spaced.
pub(crate) fn sample<T>(all: &[T]) -> impl Iterator<Item = &T> {
    all.iter().step_by(all.len().div_ceil(SAMPLE).max(1))
}

/// The mean; 0 of nothing.
pub(crate) fn mean_of(numbers: impl ExactSizeIterator<Item = usize>) -> f64 {
    let count = numbers.len().max(1) as f64;
    numbers.sum::<usize>() as f64 / count
}

/// The amounts of a run with this number of training examples, and of prompts of each evaluated set.
pub(crate) fn amounts(
    run: &Run,
    protocol: &LanguageProtocol,
    examples: f64,
    prompts: &[f64],
    lengths: &Lengths,
) -> TextAmounts {
    let held_out = protocol.select.map_or(0.0, |select| select.rows.get() as f64);
    let trained = (examples - held_out).max(0.0);
    let limits = protocol.batch_limits(run.protocol.batch_size);
    let sequences = Sequences { lengths: &lengths.examples, pictured: &lengths.pictured };
    let batches = protocol.batching.batches(sequences, limits, run.seed, 0);
    let length = padded(&batches, &lengths.examples);
    let of_examples = Texts { number: trained, length, predicted: lengths.predicted };
    let steps = number_of_batches(trained, limits, batches.len(), lengths.examples.len());
    let compared = protocol
        .select
        .map_or(0.0, |select| (steps * run.protocol.epochs as f64 / select.every_steps.get() as f64).floor());
    TextAmounts {
        steps,
        trained: of_examples,
        held_out: Texts { number: compared * held_out, ..of_examples },
        held_out_passes: compared * (held_out / HELD_OUT_BATCH as f64).ceil(),
        evaluated: evaluated(run, protocol, prompts, lengths),
        tower: None,
    }
}

fn evaluated(run: &Run, protocol: &LanguageProtocol, prompts: &[f64], lengths: &Lengths) -> EvaluatedTexts {
    let batches = evaluation_batches(&lengths.prompts, protocol.evaluation);
    let (sampled, length) = (lengths.prompts.len(), padded(&batches, &lengths.prompts));
    let number: f64 = prompts.iter().sum();
    let count = |prompts: &f64| number_of_batches(*prompts, protocol.evaluation, batches.len(), sampled);
    let most = protocol.max_new_tokens as f64;
    // A model that was not fine-tuned for the answers' form rarely ends before the limit.
    let answer = if run.method == san_core::methods::UNTRAINED { most } else { lengths.answer.min(most) };
    let (new_tokens, sequences) = match protocol.decoding {
        AnswerDecoding::Greedy => (answer, 1.0),
        AnswerDecoding::Beams(beams) => (answer, beams as f64),
        AnswerDecoding::Likelihood => (0.0, OPTIONS),
    };
    EvaluatedTexts {
        prompts: Texts { number, length, predicted: 1.0 },
        batches: prompts.iter().map(count).sum(),
        new_tokens,
        sequences,
    }
}

/// Mean length of the sequences of some batches, padding included.
fn padded(batches: &[Vec<usize>], lengths: &[usize]) -> f64 {
    let longest = |batch: &Vec<usize>| batch.iter().map(|&place| lengths[place]).max().unwrap_or(0);
    let tokens: usize = batches.iter().map(|batch| batch.len() * longest(batch)).sum();
    tokens as f64 / lengths.len().max(1) as f64
}

/// The number of batches of some sequences, if a sample of them has `batches`.
fn number_of_batches(sequences: f64, limits: BatchLimits, batches: usize, sampled: usize) -> f64 {
    match limits.tokens {
        None => (sequences / limits.sequences.max(1) as f64).ceil(),
        Some(_) => (sequences * batches as f64 / sampled.max(1) as f64).ceil(),
    }
}
