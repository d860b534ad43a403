//! A question about an image, as one set's readers give it: the prompt with its suffix, and the key it is judged by.

use std::sync::Arc;

use crate::vl::conversation::{Conversation, Origin, Turn};
use crate::vl::judge::{Key, option_letter};
use crate::vl::picture::Picture;
use crate::vl::submission::Answered;

/// What LLaVA-1.5 appends to a question with a short answer.
pub const SHORT_ANSWER: &str = "Answer the question using a single word or phrase.";
/// What it appends to a question with options.
pub const OPTION_LETTER: &str = "Answer with the option's letter from the given choices directly.";
/// What it puts before the suffix on VizWiz.
pub const UNANSWERABLE: &str = "When the provided information is insufficient, respond with 'Unanswerable'.";

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// The set's identifier.
    pub id: String,
    /// The image.
    pub picture: Picture,
    /// Name of the image's file; empty for a drawn one.
    pub image: String,
    /// The part that it is counted in (POPE's `random`, `popular`, `adversarial`); empty elsewhere.
    pub part: String,
    /// The question without options, hint and suffix.
    pub question: String,
    /// The options, where there are any.
    pub choices: Vec<String>,
    /// All that is asked, without placeholder.
    pub prompt: String,
    /// How an answer is judged.
    pub key: Key,
    /// What to answer in training; none where the set has no answer for it.
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

    /// A question with options, `hint` before it where there is one; the key's letter is the answer in training.
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

    /// The question with its answer, to train on; none where the set has no answer for it.
    pub fn conversation(&self) -> Option<Conversation> {
        let turn = Turn { question: self.prompt.clone(), answer: self.answer.clone()?, image: true };
        Some(Conversation {
            picture: Some(self.picture.clone()),
            turns: vec![turn],
            origin: self.origin.clone(),
        })
    }

    /// What a benchmark's server wants to know of the generated `text`.
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
    /// A row, from 1, of a file of a set.
    pub fn new(set: &str, file: &std::path::Path, row: usize) -> Self {
        Self { set: set.into(), file: Arc::from(file), row }
    }
}
