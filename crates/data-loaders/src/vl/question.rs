//! A question about an image: the prompt with its suffix, and the key for scoring.

use std::sync::Arc;

use crate::vl::conversation::{Conversation, Origin, Turn};
use crate::vl::judge::{Key, option_letter};
use crate::vl::picture::Picture;
use crate::vl::submission::Answered;

/// LLaVA-1.5's suffix for a question with a short answer.
pub const SHORT_ANSWER: &str = "Answer the question using a single word or phrase.";
/// Its suffix for a question with options.
pub const OPTION_LETTER: &str = "Answer with the option's letter from the given choices directly.";
/// Its line before the suffix on VizWiz.
pub const UNANSWERABLE: &str = "When the provided information is insufficient, respond with 'Unanswerable'.";

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// The dataset's identifier.
    pub id: String,
    /// The image.
    pub picture: Picture,
    /// Name of the image file; empty for a synthetic image.
    pub image: String,
    /// The part that it is scored in (POPE's `random`, `popular`, `adversarial`); empty elsewhere.
    pub part: String,
    /// The question without options, hint and suffix.
    pub question: String,
    /// The options, if there are any.
    pub choices: Vec<String>,
    /// The full prompt, without the placeholder.
    pub prompt: String,
    /// How an answer is scored.
    pub key: Key,
    /// The target answer for training; `None` if the dataset has none.
    pub answer: Option<String>,
    /// The file and the row.
    pub origin: Origin,
}

impl Question {
    /// A question with a short answer.
    pub(crate) fn short(id: String, picture: Picture, question: &str, key: Key, origin: Origin) -> Self {
        let prompt = format!("{question}\n{SHORT_ANSWER}");
        let image = picture.file_name();
        let (part, question) = (String::new(), question.to_owned());
        Self { id, picture, image, part, question, choices: Vec::new(), prompt, key, answer: None, origin }
    }

    /// A question with options, preceded by `hint` if there is one; the key's letter is the target answer for training.
    pub(crate) fn choice(
        id: String,
        picture: Picture,
        hint: &str,
        question: &str,
        choices: Vec<String>,
        key: Key,
        origin: Origin,
    ) -> Self {
        let hint = if hint.is_empty() { String::new() } else { format!("{hint}\n") };
        let lettered = |(at, choice): (usize, &String)| Some(format!("{}. {choice}\n", option_letter(at)?));
        let listed: String = choices.iter().enumerate().filter_map(lettered).collect();
        let answer = match &key {
            Key::Choice { right, .. } | Key::Letter { right, .. } => option_letter(*right).map(String::from),
            _ => None,
        };
        let prompt = format!("{hint}{question}\n{listed}{OPTION_LETTER}");
        Self { prompt, choices, answer, ..Self::short(id, picture, question, key, origin) }
    }

    /// The question with its answer, for training; `None` if the dataset has no answer.
    pub fn conversation(&self) -> Option<Conversation> {
        let turn = Turn { question: self.prompt.clone(), answer: self.answer.clone()?, image: true };
        Some(Conversation {
            picture: Some(self.picture.clone()),
            turns: vec![turn],
            origin: self.origin.clone(),
        })
    }

    /// What the benchmark's server needs about the generated `text`.
    pub fn answered(&self, text: &str) -> Answered {
        Answered {
            id: self.id.clone(),
            image: self.image.clone(),
            question: self.question.clone(),
            choices: self.choices.clone(),
            text: text.to_owned(),
        }
    }
}

impl Origin {
    /// A row of a dataset's file, counting from 1.
    pub fn new(set: &str, file: &std::path::Path, row: usize) -> Self {
        Self { set: set.into(), file: Arc::from(file), row }
    }
}
