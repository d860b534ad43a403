//! What the protocols of language tasks have in common: batches, precision, memory, and how answers are made.

use std::num::NonZeroUsize;

use backbones::language::generate::Decoding;
use data_loaders::text::BatchLimits;
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::tasks::protocol::check_counts;

/// How a language model is trained and evaluated, whatever it reads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageProtocol {
    /// Most tokens of a training batch, padding included; no bound where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// How an answer is made.
    pub decoding: AnswerDecoding,
    /// Most tokens of an answer.
    pub max_new_tokens: i64,
    /// What bounds a batch of an evaluation.
    pub evaluation: BatchLimits,
    /// In what frozen matrices are multiplied.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// How a step fits into memory.
    #[serde(default, skip_serializing_if = "Memory::is_whole")]
    pub memory: Memory,
}

impl LanguageProtocol {
    /// What bounds a training batch of at most `sequences` examples.
    pub(super) fn batch_limits(&self, sequences: usize) -> BatchLimits {
        BatchLimits { sequences, tokens: self.batch_tokens }
    }

    /// What the types cannot say.
    ///
    /// # Errors
    /// A clause with what is wrong.
    pub fn check(&self) -> Result<(), String> {
        // A negative number counts as none.
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        let mut counts = vec![
            ("max_new_tokens", count(self.max_new_tokens)),
            ("sequences", self.evaluation.sequences as u64),
        ];
        counts.extend(self.evaluation.tokens.map(|tokens| ("tokens", tokens as u64)));
        counts.extend(self.batch_tokens.map(|tokens| ("batch_tokens", tokens as u64)));
        if let AnswerDecoding::Beams(beams) = self.decoding {
            counts.push(("beams", count(beams)));
        }
        check_counts(&counts)
    }
}

/// How an answer is made by a language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerDecoding {
    /// The likeliest text, token by token.
    Greedy,
    /// The likeliest of the texts that a beam search of this width follows.
    Beams(i64),
    /// The likeliest of the answers that the question offers.
    Likelihood,
}

impl AnswerDecoding {
    /// How a text is generated; none where none is.
    pub fn generation(self) -> Option<Decoding> {
        match self {
            Self::Greedy => Some(Decoding::Greedy),
            Self::Beams(beams) => Some(Decoding::Beams(beams)),
            Self::Likelihood => None,
        }
    }
}

/// The type that frozen matrices are kept and multiplied in. What is trained, norms and everything between products are
/// f32 either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Eight bits of precision: half the memory, and faster where the processor or GPU has products of it.
    Bf16,
}

impl Precision {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
    fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// The type of tensors.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

/// How a step fits into memory. Its gradient is the same whichever way, to rounding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The most examples of a batch that are computed at once; all where it is left out.
    #[serde(default)]
    pub micro_batch_size: Option<NonZeroUsize>,
    /// Whether the activations within a block are computed again in the backward pass, not kept.
    #[serde(default)]
    pub gradient_checkpointing: bool,
}

impl Memory {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
    fn is_whole(&self) -> bool {
        *self == Self::default()
    }
}
