//! How one run is made, whatever the model reads: the part of an experiment file that every cell carries.

use backbones::llava;
use data_loaders::{Augmentation, ImageProtocol};
use san_core::methods::{self, Method, UNTRAINED};
use serde::{Deserialize, Serialize};

use crate::language_protocol::{
    LanguageProtocol, ProjectorProtocol, QuestionProtocol, Reading, TextProtocol,
};

/// How one run is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenProtocol", into = "WrittenProtocol")]
pub struct Protocol {
    /// Passes over the training images.
    pub epochs: u64,
    /// Epochs of linear warm-up.
    pub warmup_epochs: u64,
    /// Images a step.
    pub batch_size: usize,
    /// AdamW's decoupled weight decay of matrices.
    pub weight_decay: f64,
    /// Stochastic depth: the probability, below 1, that the last block's branches are left out of a
    /// training pass; it grows linearly from the first block's 0.
    pub drop_path: f64,
    /// Whether the test split is read after each epoch, for the peers' test-selected number beside the
    /// table's; nothing is chosen by it.
    pub test_selected: bool,
    /// Whether a SAN model is also read after each epoch with its parts alone: neuron, synapse, head.
    pub readings: bool,
    /// Random changes of training images; none where it is left out.
    pub augmentation: Option<Augmentation>,
    /// What the model reads, and how it becomes tensors.
    pub input: Input,
}

impl Protocol {
    /// How the projector is trained beside a method, if it is.
    pub fn projector(&self) -> Option<ProjectorProtocol> {
        match &self.input {
            Input::Questions(questions) => questions.projector,
            Input::Image(_) | Input::Text(_) => None,
        }
    }

    /// What is counted, by its field; each is 1 at least.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        let mut counts = vec![("epochs", self.epochs), ("batch_size", self.batch_size as u64)];
        let (cutoff, language) = match &self.input {
            Input::Image(_) => return counts,
            Input::Text(text) => (text.examples.cutoff, LanguageProtocol::from(text)),
            Input::Questions(questions) => (questions.cutoff, LanguageProtocol::from(questions)),
        };
        counts.push(("cutoff", cutoff as u64));
        counts.push(("sequences", language.evaluation.sequences as u64));
        // A negative number is none.
        counts.push(("new_tokens", u64::try_from(language.new_tokens).unwrap_or(0)));
        if let Reading::Beams(beams) = language.reading {
            counts.push(("beams", u64::try_from(beams).unwrap_or(0)));
        }
        counts
    }

    /// The method as it is trained here: with the projector beside it, where the protocol says so and it trains anything.
    pub fn around(&self, method: Box<dyn Method>) -> Box<dyn Method> {
        match self.projector() {
            Some(_) if method.name() != UNTRAINED => {
                methods::beside(method, llava::Architecture::projector_tensors().to_vec())
            }
            _ => method,
        }
    }
}

/// What a model reads, and how it becomes tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Images to classify.
    Image(ImageProtocol),
    /// Rows of instruction and answer; one model learns from those of all sets.
    Text(TextProtocol),
    /// Questions about pictures; one model learns from those of all sets.
    Questions(QuestionProtocol),
}

/// [`Protocol`] as files have it: the input is a field of its kind's name.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProtocol {
    epochs: u64,
    #[serde(default)]
    warmup_epochs: u64,
    batch_size: usize,
    #[serde(default)]
    weight_decay: f64,
    #[serde(default, skip_serializing_if = "is_zero")]
    drop_path: f64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    test_selected: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    readings: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    augmentation: Option<Augmentation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<ImageProtocol>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "serde_yaml::with::singleton_map_recursive"
    )]
    text: Option<TextProtocol>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "serde_yaml::with::singleton_map_recursive"
    )]
    questions: Option<QuestionProtocol>,
}

impl TryFrom<WrittenProtocol> for Protocol {
    type Error = String;

    fn try_from(written: WrittenProtocol) -> Result<Self, String> {
        let WrittenProtocol { epochs, warmup_epochs, batch_size, weight_decay, drop_path, .. } = written;
        let WrittenProtocol { test_selected, readings, augmentation, image, text, questions, .. } = written;
        let input = match (image, text, questions) {
            (Some(image), None, None) => Input::Image(image),
            (None, Some(text), None) => Input::Text(text),
            (None, None, Some(questions)) => {
                questions.check()?;
                Input::Questions(questions)
            }
            (None, None, None) => {
                return Err("the protocol has neither `image` nor `text` nor `questions`".into());
            }
            _ => return Err("the protocol has more than one of `image`, `text` and `questions`".into()),
        };
        if let Some(augmentation) = &augmentation {
            augmentation.check().map_err(|reason| format!("augmentation: {reason}"))?;
            if !matches!(input, Input::Image(_)) {
                return Err("`augmentation` is for images".into());
            }
        }
        Ok(Self {
            epochs,
            warmup_epochs,
            batch_size,
            weight_decay,
            drop_path,
            test_selected,
            readings,
            augmentation,
            input,
        })
    }
}

impl From<Protocol> for WrittenProtocol {
    fn from(protocol: Protocol) -> Self {
        let Protocol {
            epochs,
            warmup_epochs,
            batch_size,
            weight_decay,
            drop_path,
            test_selected,
            readings,
            augmentation,
            input,
        } = protocol;
        let (image, text, questions) = match input {
            Input::Image(image) => (Some(image), None, None),
            Input::Text(text) => (None, Some(text), None),
            Input::Questions(questions) => (None, None, Some(questions)),
        };
        Self {
            epochs,
            warmup_epochs,
            batch_size,
            weight_decay,
            drop_path,
            test_selected,
            readings,
            augmentation,
            image,
            text,
            questions,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}
