//! What the protocols of language tasks have in common: batches, memory, and how answers are generated.

use std::num::{NonZeroU64, NonZeroUsize};

use backbones::language::generate::Decoding;
use data_loaders::text::{BatchLimits, Batching};
use serde::{Deserialize, Serialize};

use crate::tasks::protocol::check_counts;

/// How a language model is trained and evaluated, with or without images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageProtocol {
    /// Maximum number of tokens in a training batch, padding included; unlimited if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Which examples share a batch.
    #[serde(default, skip_serializing_if = "Batching::is_default")]
    pub batching: Batching,
    /// Keeps the weights with the lowest loss on some training examples, which are not trained on, instead of the last
    /// ones; the last ones are kept if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<SelectByLoss>,
    /// How an answer is generated or selected.
    pub decoding: AnswerDecoding,
    /// Maximum number of tokens in an answer.
    pub max_new_tokens: i64,
    /// The limits of an evaluation batch.
    pub evaluation: BatchLimits,
    /// Evaluates the merged model, where the method can be merged: generation is as fast as that of the base model, and
    /// with `precision: bf16` updates below half a step of a weight are lost in rounding.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub evaluate_merged: bool,
    /// How a step fits into memory.
    #[serde(default, skip_serializing_if = "Memory::is_whole")]
    pub memory: Memory,
}

/// How weights are selected by their loss on held-out training examples. LLM-Adapters: every 80 steps, 120 rows, seed 42.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectByLoss {
    /// Steps between two evaluations.
    pub every_steps: NonZeroU64,
    /// Number of examples that are held out.
    pub rows: NonZeroUsize,
    /// The seed by which they are drawn, the same for every run.
    pub seed: u64,
}

impl LanguageProtocol {
    /// The limits of a training batch of at most `sequences` examples.
    pub(super) fn batch_limits(&self, sequences: usize) -> BatchLimits {
        BatchLimits { sequences, tokens: self.batch_tokens }
    }

    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// A clause that states what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let mut counts = vec![
            ("max_new_tokens", self.max_new_tokens.into()),
            ("sequences", self.evaluation.sequences as i128),
        ];
        counts.extend(self.evaluation.tokens.map(|tokens| ("tokens", tokens as i128)));
        counts.extend(self.batch_tokens.map(|tokens| ("batch_tokens", tokens as i128)));
        if let AnswerDecoding::Beams(beams) = self.decoding {
            counts.push(("beams", beams.into()));
        }
        if self.batch_tokens.is_some() && self.batching != Batching::Windows {
            return Err(
                "`batch_tokens` needs `batching: windows`: the others have batches of equal numbers".into()
            );
        }
        check_counts(&counts)
    }
}

/// How a language model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerDecoding {
    /// Greedy decoding.
    Greedy,
    /// Beam search with this number of beams.
    Beams(i64),
    /// The most likely of the question's answer options.
    Likelihood,
}

impl AnswerDecoding {
    /// How a text is generated; `None` if none is.
    pub fn generation(self) -> Option<Decoding> {
        match self {
            Self::Greedy => Some(Decoding::Greedy),
            Self::Beams(beams) => Some(Decoding::Beams(beams)),
            Self::Likelihood => None,
        }
    }
}

/// How a step fits into memory. The gradient is the same in every case, up to rounding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Maximum number of examples in a micro-batch; the whole batch if omitted.
    #[serde(default)]
    pub micro_batch_size: Option<NonZeroUsize>,
    /// Activation checkpointing: whether activations within a block are recomputed in the backward pass instead of
    /// kept.
    #[serde(default)]
    pub gradient_checkpointing: bool,
}

impl Memory {
    /// The ways to compute a step of `batch` examples: this one if it says anything, otherwise from the fastest to the one
    /// that needs the least memory. Micro-batches cost little down to an eighth of a batch; recomputation costs about a
    /// third of the time.
    pub fn choices(self, batch: usize) -> Vec<Self> {
        if !self.is_whole() {
            return vec![self];
        }
        let halves = |gradient_checkpointing, least: usize| {
            let sizes =
                std::iter::successors(Some(batch), |size| Some(size.div_ceil(2)).filter(|_| *size > 1));
            sizes.take_while(move |size| *size >= least).map(move |size| Self {
                micro_batch_size: NonZeroUsize::new(size).filter(|_| size < batch),
                gradient_checkpointing,
            })
        };
        halves(false, (batch / 8).max(1)).chain(halves(true, 1)).collect()
    }

    /// The same with half the examples in a micro-batch; `None` if there is only one in it.
    #[must_use]
    pub fn halved(self, batch: usize) -> Option<Self> {
        let size = self.micro_batch_size.map_or(batch, |size| size.get().min(batch));
        let micro_batch_size = NonZeroUsize::new(size.div_ceil(2)).filter(|_| size > 1);
        micro_batch_size.is_some().then_some(Self { micro_batch_size, ..self })
    }

    /// How a step of `batch` examples is computed, in words.
    pub fn in_words(self, batch: usize) -> String {
        let size = self.micro_batch_size.map_or(batch, NonZeroUsize::get);
        let parts = if size < batch { format!("{size} of {batch}") } else { batch.to_string() };
        parts + if self.gradient_checkpointing { ", gradient checkpointing" } else { "" }
    }

    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
    fn is_whole(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_split_before_it_is_recomputed() {
        let of = |size: usize, gradient_checkpointing| Memory {
            micro_batch_size: NonZeroUsize::new(size),
            gradient_checkpointing,
        };
        let choices = Memory::default().choices(16);
        assert_eq!(choices[..4], [of(0, false), of(8, false), of(4, false), of(2, false)]);
        assert_eq!(choices[4..], [of(0, true), of(8, true), of(4, true), of(2, true), of(1, true)]);
        assert_eq!(of(3, false).choices(16), [of(3, false)], "the protocol says how");
        assert_eq!(Memory::default().halved(5), Some(of(3, false)));
        assert_eq!((of(2, true).halved(16), of(1, true).halved(16)), (Some(of(1, true)), None));
        assert_eq!(of(8, true).in_words(16), "8 of 16, gradient checkpointing");
    }
}
