//! How a language model is tuned and read, on rows of text or on questions about pictures.

use std::num::NonZeroUsize;

use backbones::generate::Decoding;
use data_loaders::text::{BatchLimits, ExampleProtocol};
use data_loaders::vl::{PictureProtocol, Template};
use san_core::train::schedule::{Cosine, Linear};
use serde::{Deserialize, Serialize};
use tch::Kind;

/// How a language model is tuned and read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextProtocol {
    /// How a row becomes tokens.
    pub examples: ExampleProtocol,
    /// Most tokens of a training batch, padding included; no bound where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Steps of linear warm-up; the rate then falls linearly.
    pub warmup_steps: u64,
    /// How an answer is read.
    pub reading: Reading,
    /// Most tokens of an answer.
    pub new_tokens: i64,
    /// What bounds a batch of an evaluation.
    pub evaluation: BatchLimits,
    /// In what frozen matrices are multiplied.
    #[serde(default, skip_serializing_if = "Compute::is_f32")]
    pub compute: Compute,
    /// How a step fits into memory.
    #[serde(default, skip_serializing_if = "Memory::is_whole")]
    pub memory: Memory,
}

/// How a model of vision and language is tuned and read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionProtocol {
    /// How a picture becomes the tower's input.
    pub picture: PictureProtocol,
    /// How a question becomes a text.
    pub template: Template,
    /// The most tokens of an example, those of its picture included; it is cut on the right.
    pub cutoff: usize,
    /// Whether the projector is trained whole beside every method, and how; as the method does where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<ProjectorProtocol>,
    /// Most tokens of a training batch, padding included; no bound where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Share of the steps that warm up linearly; the rate then falls along half a cosine. LLaVA's is 0.03.
    pub warmup: f64,
    /// How an answer is read; not by likelihood, for the answers are free.
    pub reading: Reading,
    /// Most tokens of an answer.
    pub new_tokens: i64,
    /// What bounds a batch of an evaluation.
    pub evaluation: BatchLimits,
    /// In what frozen matrices of the language model are multiplied.
    #[serde(default, skip_serializing_if = "Compute::is_f32")]
    pub compute: Compute,
    /// How a step fits into memory.
    #[serde(default, skip_serializing_if = "Memory::is_whole")]
    pub memory: Memory,
    /// The most training questions about one picture that are read in one pass over it; `batch_size` counts such passes.
    /// None sees another, so the loss is that of single questions. One where it is left out.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub together: usize,
}

fn one() -> usize {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_one(number: &usize) -> bool {
    *number == 1
}

/// The type that frozen matrices are kept and multiplied in. What is trained, norms and all that stands between products
/// are f32 either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compute {
    /// Single precision.
    #[default]
    F32,
    /// Eight bits of precision: half the memory, and faster where the processor or GPU has products of it.
    Bf16,
}

impl Compute {
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
    pub at_once: Option<NonZeroUsize>,
    /// Whether the activations within a block are computed again on the way back, not kept.
    #[serde(default)]
    pub recompute: bool,
}

impl Memory {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
    fn is_whole(&self) -> bool {
        *self == Self::default()
    }
}

/// How a projector is trained whole beside a method.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectorProtocol {
    /// The learning rate at the top, above 0; it goes as the method's does. LLaVA's is 2e-5.
    pub learning_rate: f64,
}

impl QuestionProtocol {
    /// What the types cannot say.
    ///
    /// # Errors
    /// A clause with what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.reading == Reading::Likelihood {
            return Err("questions: `reading: likelihood` needs listed answers, and these are free".into());
        }
        if self.template == Template::Plain {
            return Err("questions: the template `plain` leaves questions out".into());
        }
        if !(0.0..1.0).contains(&self.warmup) {
            return Err("questions: `warmup` is a share of the steps, 0 or more and below 1".into());
        }
        if self.together == 0 {
            return Err("questions: `together` is 1 or more".into());
        }
        let usable = |rate: f64| rate > 0.0 && rate.is_finite();
        if self.projector.is_some_and(|projector| !usable(projector.learning_rate)) {
            return Err("questions: the `learning_rate` of the `projector` must be above 0".into());
        }
        Ok(())
    }
}

/// How an answer is read from a language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// In the likeliest text, token by token.
    Greedy,
    /// In the likeliest of the texts that a search follows, so many at a time.
    Beams(i64),
    /// The likeliest of the answers that the question offers.
    Likelihood,
}

impl Reading {
    /// How a text is made; none where none is.
    pub fn decoding(self) -> Option<Decoding> {
        match self {
            Self::Greedy => Some(Decoding::Greedy),
            Self::Beams(beams) => Some(Decoding::Beams(beams)),
            Self::Likelihood => None,
        }
    }
}

/// What both protocols have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LanguageProtocol {
    batch_tokens: Option<usize>,
    course: Course,
    pub(crate) reading: Reading,
    pub(crate) new_tokens: i64,
    pub(crate) evaluation: BatchLimits,
    pub(crate) memory: Memory,
}

/// How the learning rate goes.
#[derive(Debug, Clone, Copy)]
enum Course {
    Linear { warmup_steps: u64 },
    Cosine { warmup: f64 },
}

impl From<&TextProtocol> for LanguageProtocol {
    fn from(text: &TextProtocol) -> Self {
        let &TextProtocol { batch_tokens, warmup_steps, reading, new_tokens, evaluation, memory, .. } = text;
        Self {
            batch_tokens,
            course: Course::Linear { warmup_steps },
            reading,
            new_tokens,
            evaluation,
            memory,
        }
    }
}

impl From<&QuestionProtocol> for LanguageProtocol {
    fn from(questions: &QuestionProtocol) -> Self {
        let &QuestionProtocol { batch_tokens, warmup, reading, new_tokens, evaluation, memory, .. } =
            questions;
        Self { batch_tokens, course: Course::Cosine { warmup }, reading, new_tokens, evaluation, memory }
    }
}

impl LanguageProtocol {
    /// What bounds a training batch of so many examples.
    pub(crate) fn batch_limits(&self, sequences: usize) -> BatchLimits {
        BatchLimits { sequences, tokens: self.batch_tokens }
    }

    /// The learning rate of a step, of `steps` in all.
    pub(crate) fn schedule(&self, base: f64, steps: u64) -> Box<dyn Fn(u64) -> f64> {
        match self.course {
            Course::Linear { warmup_steps } => {
                let schedule = Linear { base, warmup_steps, steps };
                Box::new(move |step| schedule.rate(step))
            }
            Course::Cosine { warmup } => {
                #[allow(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss
                )]
                let warmup_steps = (warmup * steps as f64).ceil() as u64;
                let schedule = Cosine { base, warmup_start: 0.0, warmup_steps, floor: 0.0, steps };
                Box::new(move |step| schedule.rate(step))
            }
        }
    }
}
