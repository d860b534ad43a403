//! What a suite teaches and asks, in tokens: the part of a language task that differs from one kind of data to another.

use std::collections::BTreeMap;

use anyhow::Result;
use backbones::language::generate::Continuation;
use data_loaders::text::{Example, Truncation};
use report::record::Dataset;
use tch::Tensor;

use crate::error::RunError;

/// What is trained on, and what is evaluated.
pub(crate) struct TrainData {
    /// The training examples of all sets together.
    pub(crate) examples: Vec<Example>,
    /// What the cut to the protocol's length cost.
    pub(crate) truncation: Truncation,
    /// What stands in the examples besides tokens, by their places.
    pub(crate) images: Box<dyn ImageFeatures>,
    /// What is evaluated: one for each set, or one that they share.
    pub(crate) eval_sets: Vec<Box<dyn EvalSet>>,
}

impl TrainData {
    /// Refuses a text that is longer than the model's context, answers of `max_new_tokens` included, and examples of which
    /// none teaches anything.
    ///
    /// # Errors
    /// With the place of the first one.
    pub(crate) fn fits(&self, model: &str, context: i64, max_new_tokens: i64) -> Result<(), RunError> {
        let fits = |what: String, tokens: usize| -> Result<(), RunError> {
            match i64::try_from(tokens) {
                Ok(length) if length <= context => Ok(()),
                _ => Err(RunError::TooLong { what, tokens, model: model.to_owned(), context }),
            }
        };
        for (example, row) in self.examples.iter().zip(1..) {
            fits(format!("training example {row}"), example.tokens.len())?;
        }
        if !self.examples.is_empty() && !self.examples.iter().any(Example::teaches) {
            return Err(RunError::NothingTaught { examples: self.examples.len() });
        }
        for eval_set in &self.eval_sets {
            let room = usize::try_from(eval_set.max_new_tokens(max_new_tokens)).unwrap_or(0);
            for (prompt, row) in eval_set.prompts().iter().zip(1..) {
                let what = format!("row {row} of {}, room for its answer included,", eval_set.dataset().name);
                fits(what, prompt.len() + room)?;
            }
        }
        Ok(())
    }
}

/// What a vision tower made of the pictures that belong to examples, or to prompts.
pub(crate) trait ImageFeatures {
    /// Tokens `[pictures, tokens, width]` of the pictures in these examples, in order; none where there are none.
    ///
    /// # Errors
    /// When libtorch fails.
    fn features(&self, examples: &[usize]) -> Result<Option<Tensor>>;
}

/// No pictures.
pub(crate) struct NoImages;

impl ImageFeatures for NoImages {
    fn features(&self, _: &[usize]) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// The questions of one set: prompts, and how answers to them are judged.
pub(crate) trait EvalSet {
    /// The set; what was trained on is counted elsewhere.
    fn dataset(&self) -> &Dataset;

    /// What its score is.
    fn metric(&self) -> &'static str;

    /// Name of the set in names of files.
    fn file_stem(&self) -> &str;

    /// The prompts in tokens, a place in each for every token of a picture.
    fn prompts(&self) -> &[Vec<i64>];

    /// The pictures of the prompts.
    fn images(&self) -> &dyn ImageFeatures;

    /// The most tokens of an answer, where the protocol allows `most`: fewer where the set has a rule of its own.
    fn max_new_tokens(&self, most: i64) -> i64 {
        most
    }

    /// The answers that a question offers, as continuations of its prompt; none where answers are free.
    ///
    /// # Errors
    /// When a text cannot be encoded.
    fn options(&self, prompt: usize) -> Result<Vec<(String, Continuation)>> {
        let _ = prompt;
        Ok(Vec::new())
    }

    /// The file, and its name, that a server reads which alone knows the answers.
    ///
    /// # Errors
    /// When an answer does not fit the file.
    fn submission(&self, answers: &[Answer]) -> Result<Option<(&'static str, Vec<u8>)>> {
        let _ = answers;
        Ok(None)
    }

    /// Judges an answer to each prompt.
    fn judge(&self, answers: &[Answer]) -> EvalJudgement;
}

/// What was found for a prompt.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A text.
    Text(String),
    /// One of the answers that the question offers; none where none is the likeliest.
    Option(Option<String>),
}

impl Answer {
    /// The words of it; empty where there are none.
    pub(crate) fn words(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Option(option) => option.as_deref().unwrap_or_default(),
        }
    }
}

/// What the answers to a set's questions were worth.
pub(crate) struct EvalJudgement {
    /// In [0, 1]; none as long as a server knows the answers.
    pub(crate) score: Option<f64>,
    /// Share of the texts without an answer.
    pub(crate) no_answer: f64,
    /// Further numbers by name.
    pub(crate) further: BTreeMap<String, f64>,
    /// Of each question a number of its right answer, and that of the one given; -1 for none.
    pub(crate) labels: Vec<i64>,
    /// See `labels`.
    pub(crate) predicted: Vec<i64>,
}
