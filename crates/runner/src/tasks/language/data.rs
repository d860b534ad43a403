//! The tokenised training data and evaluation sets of a suite: the part of a language task that depends on the kind of
//! data.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use backbones::language::generate::Continuation;
use data_loaders::text::{Example, Truncation};
use report::record::Dataset;
use san_core::random::permutation;
use tch::Tensor;

use crate::error::RunError;
use crate::resources::FeatureCache;
use crate::train::trainer::RunControl;

/// The data to train on and to evaluate on.
pub(crate) struct TrainData {
    /// The training examples of all sets together.
    pub(crate) examples: Vec<Example>,
    /// What the truncation to the protocol's length removed.
    pub(crate) truncation: Truncation,
    /// Image features of the examples, by index.
    pub(crate) images: Box<dyn ImageFeatures>,
    /// The evaluation sets: one per data set, or one that they share.
    pub(crate) eval_sets: Vec<Box<dyn EvalSet>>,
}

impl TrainData {
    /// The examples that are not trained on, to select weights by: drawn by a seed, in ascending order.
    ///
    /// # Errors
    /// When none would be left to train on.
    pub(crate) fn hold_out(&self, rows: NonZeroUsize, seed: u64) -> Result<Vec<usize>, RunError> {
        // An example without a label has no loss.
        let taught: Vec<usize> =
            (0..self.examples.len()).filter(|&place| self.examples[place].teaches()).collect();
        if rows.get() >= taught.len() && !taught.is_empty() {
            return Err(RunError::NothingLeft { held_out: rows.get(), examples: taught.len() });
        }
        let order = permutation(seed, "held-out examples", taught.len());
        let mut held_out: Vec<usize> =
            order.into_iter().take(rows.get()).map(|place| taught[place]).collect();
        held_out.sort_unstable();
        Ok(held_out)
    }

    /// Rejects a text that is longer than the model's context, with answers of `max_new_tokens` included, and examples
    /// that all have no token to train on.
    ///
    /// # Errors
    /// With the index of the first one.
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
            // A protocol with a negative number is refused before it comes here.
            let reserved = usize::try_from(eval_set.max_new_tokens(max_new_tokens)).unwrap_or(usize::MAX);
            for (prompt, row) in eval_set.prompts().iter().zip(1..) {
                let what = format!(
                    "row {row} of {}, with the tokens reserved for its answer,",
                    eval_set.dataset().name
                );
                fits(what, prompt.len().saturating_add(reserved))?;
            }
        }
        Ok(())
    }
}

/// A vision tower's features of the images that belong to examples or prompts.
pub(crate) trait ImageFeatures {
    /// Computes or opens what the features are taken from, before the first of them is needed.
    ///
    /// # Errors
    /// When an image or a file cannot be read, a file cannot be written, or a signal asked to stop.
    fn prepare(&self, cache: &mut FeatureCache, control: &mut RunControl<'_>) -> Result<()> {
        let _ = (cache, control);
        Ok(())
    }

    /// Features `[pictures, tokens, width]` of the images in these examples, in order; `None` if there are none.
    ///
    /// # Errors
    /// When an image cannot be read, or libtorch fails.
    fn features(&self, examples: &[usize]) -> Result<Option<Tensor>>;

    /// Whether images are read ahead of their use, if [`Self::expect`] says which.
    fn reads_ahead(&self) -> bool {
        false
    }

    /// Starts to read the images of the next calls of [`Self::features`], given by their examples. Calls for other
    /// examples may come in between.
    ///
    /// # Errors
    /// When the operating system cannot create a thread.
    fn expect(&self, batches: &[Vec<usize>]) -> Result<()> {
        let _ = batches;
        Ok(())
    }

    /// Whether an example has an image.
    fn has_images(&self, example: usize) -> bool {
        let _ = example;
        false
    }

    /// The time that they have taken.
    fn times(&self) -> PictureTimes {
        PictureTimes::default()
    }
}

/// The time that the features of images have taken.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PictureTimes {
    /// Forward passes of the tower.
    pub(crate) computing: Duration,
    /// Waiting for images, or for their features from a file.
    pub(crate) data_wait: Duration,
}

/// No pictures.
pub(crate) struct NoImages;

impl ImageFeatures for NoImages {
    fn features(&self, _: &[usize]) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// The questions of one set: prompts, and how answers to them are scored.
pub(crate) trait EvalSet {
    /// The set; the training samples are counted elsewhere.
    fn dataset(&self) -> &Dataset;

    /// Name of the score.
    fn metric(&self) -> &'static str;

    /// Name of the set in file names.
    fn file_stem(&self) -> &str;

    /// The tokenised prompts, with a placeholder for every token of an image.
    fn prompts(&self) -> &[Vec<i64>];

    /// The images of the prompts.
    fn images(&self) -> &dyn ImageFeatures;

    /// Maximum number of tokens in an answer, if the protocol allows `most`: fewer if the set has its own rule.
    fn max_new_tokens(&self, most: i64) -> i64 {
        most
    }

    /// The answer options of a question, as continuations of its prompt; empty if answers are free-form.
    ///
    /// # Errors
    /// When a text cannot be encoded.
    fn options(&self, prompt: usize) -> Result<Vec<(String, Continuation)>> {
        let _ = prompt;
        Ok(Vec::new())
    }

    /// Contents and name of the file to submit to an evaluation server, if only that has the answers.
    ///
    /// # Errors
    /// When an answer cannot be represented in the file.
    fn submission(&self, answers: &[Answer]) -> Result<Option<(&'static str, Vec<u8>)>> {
        let _ = answers;
        Ok(None)
    }

    /// Scores the answers, one per prompt.
    fn judge(&self, answers: &[Answer]) -> EvalJudgement;
}

/// A model's answer to a prompt.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A generated text.
    Text(String),
    /// One of the answer options of the question; `None` if none is the most likely.
    Option(Option<String>),
}

impl Answer {
    /// The text of the answer; empty if there is none.
    pub(crate) fn words(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Option(option) => option.as_deref().unwrap_or_default(),
        }
    }
}

/// The scores of the answers to a set's questions.
pub(crate) struct EvalJudgement {
    /// In [0, 1]; `None` if only a server has the answers.
    pub(crate) score: Option<f64>,
    /// Share of the texts without an answer.
    pub(crate) no_answer: f64,
    /// Further metrics by name.
    pub(crate) further: BTreeMap<String, f64>,
    /// Labels of the correct answers, one per question; -1 if there is none.
    pub(crate) labels: Vec<i64>,
    /// Labels of the given answers, as in `labels`.
    pub(crate) predicted: Vec<i64>,
}
