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
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
    fn is_whole(&self) -> bool {
        *self == Self::default()
    }
}
