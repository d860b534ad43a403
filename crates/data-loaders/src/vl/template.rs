//! Renders a conversation as one text: LLaVA's templates, the image positions, and the spans of the answers, the
//! only tokens that are trained on.
//!
//! The spans are byte ranges, so that labels follow from a tokenizer's own spans ([`Rendered::sequence`]) and not from
//! counting tokens of parts, which need not add up to the tokens of the whole.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::vl::conversation::{Conversation, PLACEHOLDER};

/// A template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// Vicuna's conversation template: instruction tuning and evaluation.
    V1,
    /// The same without the system prompt, which would be most of the text for a model with a short context.
    Bare,
    /// The image, then its caption and a line break: for aligning the projector. Questions are left out.
    Plain,
}

const SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant gives \
    helpful, detailed, and polite answers to the user's questions.";

/// A rendered text with its answer spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text, with [`PLACEHOLDER`] at the image positions.
    pub text: String,
    /// Byte ranges of the answers, including their terminators.
    pub answers: Vec<Range<usize>>,
}

impl Template {
    /// The template with this name.
    ///
    /// # Errors
    /// [`DataError::UnknownTemplate`].
    pub fn find(name: &str) -> Result<Self, DataError> {
        match name {
            "v1" => Ok(Self::V1),
            "bare" => Ok(Self::Bare),
            "plain" => Ok(Self::Plain),
            _ => Err(DataError::UnknownTemplate { name: name.into() }),
        }
    }

    /// Renders a conversation for training; `end` is the text of the tokenizer's end-of-text token.
    ///
    /// # Errors
    /// If the template cannot represent the conversation.
    pub fn render(self, conversation: &Conversation, end: &str) -> Result<Rendered, DataError> {
        match self {
            Self::V1 | Self::Bare => Ok(self.dialogue(conversation, end)),
            Self::Plain => match &conversation.turns[..] {
                [turn] if turn.image => {
                    let mut rendered = Rendered { text: PLACEHOLDER.into(), answers: Vec::new() };
                    rendered.answer(&format!("{}\n", turn.answer));
                    Ok(rendered)
                }
                _ => Err(conversation
                    .origin
                    .fault("the template `plain` is for one question and answer about an image")),
            },
        }
    }

    /// Renders `prompt` about an image without an answer, for the model to continue.
    pub fn open(self, prompt: &str) -> Rendered {
        let text = match self {
            Self::V1 | Self::Bare => {
                format!("{}USER: {PLACEHOLDER}\n{prompt} ASSISTANT:", self.opening())
            }
            Self::Plain => PLACEHOLDER.into(),
        };
        Rendered { text, answers: Vec::new() }
    }

    /// The text before the first turn.
    fn opening(self) -> String {
        if self == Self::V1 { format!("{SYSTEM} ") } else { String::new() }
    }

    fn dialogue(self, conversation: &Conversation, end: &str) -> Rendered {
        let mut rendered = Rendered { text: self.opening(), answers: Vec::new() };
        for turn in &conversation.turns {
            let image = if turn.image { format!("{PLACEHOLDER}\n") } else { String::new() };
            rendered.text += &format!("USER: {image}{} ASSISTANT:", turn.question);
            // The space belongs to the answer: tokenizers join it to the first word.
            rendered.answer(&format!(" {}{end}", turn.answer));
        }
        rendered
    }
}

impl Rendered {
    fn answer(&mut self, text: &str) {
        let start = self.text.len();
        self.text += text;
        self.answers.push(start..self.text.len());
    }

    /// The tokens of the text, with each placeholder replaced by `image.count` tokens `image.id`. `encode` returns the
    /// tokens of a stretch of text between placeholders; its second argument is whether this is the first stretch, to
    /// which a tokenizer may prepend a special token.
    ///
    /// # Errors
    /// Those of `encode`.
    pub fn sequence<E>(
        &self,
        image: ImageTokens,
        mut encode: impl FnMut(&str, bool) -> Result<Vec<Token>, E>,
    ) -> Result<Sequence, E> {
        let mut sequence = Sequence::default();
        let mut start = 0;
        for (number, stretch) in self.text.split(PLACEHOLDER).enumerate() {
            if number > 0 {
                sequence.ids.extend(std::iter::repeat_n(image.id, image.count));
                sequence.trained.extend(std::iter::repeat_n(false, image.count));
            }
            for Token { id, span } in encode(stretch, number == 0)? {
                let (from, to) = (start + span.start, start + span.end);
                sequence.ids.push(id);
                sequence
                    .trained
                    .push(self.answers.iter().any(|answer| from < answer.end && answer.start < to));
            }
            start += stretch.len() + PLACEHOLDER.len();
        }
        Ok(sequence)
    }
}

/// A token and its byte range; empty for a special token added by the tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id in the vocabulary.
    pub id: i64,
    /// Byte range in the encoded text.
    pub span: Range<usize>,
}

/// The tokens that represent an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageTokens {
    /// The id that marks the position of an image feature.
    pub id: i64,
    /// Number of features per image.
    pub count: usize,
}

/// Tokens, and whether each is trained on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sequence {
    /// The tokens.
    pub ids: Vec<i64>,
    /// Whether the token is a label.
    pub trained: Vec<bool>,
}

impl Sequence {
    /// Keeps the first `length` tokens and returns how many labels were cut off.
    pub fn truncate(&mut self, length: usize) -> usize {
        let labels = |trained: &[bool]| trained.iter().filter(|trained| **trained).count();
        let before = labels(&self.trained);
        self.ids.truncate(length);
        self.trained.truncate(length);
        before - labels(&self.trained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vl::conversation::{Origin, Turn};

    fn conversation(turns: &[(&str, &str, bool)]) -> Conversation {
        let turn = |&(question, answer, image): &(&str, &str, bool)| Turn {
            question: question.into(),
            answer: answer.into(),
            image,
        };
        let turns = turns.iter().map(turn).collect();
        Conversation { picture: None, turns, origin: Origin::new("a", "a.json".as_ref(), 7) }
    }

    /// One token per character, with its code point as id; the first stretch starts with token 1.
    fn characters(text: &str, first: bool) -> Result<Vec<Token>, std::convert::Infallible> {
        let start = first.then_some(Token { id: 1, span: 0..0 });
        let token = |(at, character): (usize, char)| Token {
            id: i64::from(u32::from(character)),
            span: at..at + character.len_utf8(),
        };
        Ok(start.into_iter().chain(text.char_indices().map(token)).collect())
    }

    #[test]
    fn v1_trains_only_on_the_answers_and_their_end_tokens() {
        let two = conversation(&[("Whät?", "A dog.", true), ("Sure?", "Yes", false)]);
        let rendered = Template::V1.render(&two, "</s>").unwrap();
        let expected =
            format!("{SYSTEM} USER: <image>\nWhät? ASSISTANT: A dog.</s>USER: Sure? ASSISTANT: Yes</s>");
        assert_eq!(rendered.text, expected);
        let sequence = rendered.sequence(ImageTokens { id: -200, count: 3 }, characters).unwrap();
        let trained: String = std::iter::zip(&sequence.ids, &sequence.trained)
            .filter_map(|(id, trained)| char::from_u32(u32::try_from(*id).ok()?).filter(|_| *trained))
            .collect();
        assert_eq!(trained, " A dog.</s> Yes</s>");
        assert_eq!(sequence.ids.iter().filter(|id| **id == -200).count(), 3);
        assert_eq!(sequence.ids.len(), 1 + expected.chars().count() - PLACEHOLDER.len() + 3);
        assert_eq!(sequence.ids[0], 1);
    }

    #[test]
    fn generation_prompts_equal_training_prompts() {
        let one = conversation(&[("What?", "A dog.", true)]);
        let trained = Template::V1.render(&one, "</s>").unwrap();
        let open = Template::V1.open("What?");
        assert_eq!(trained.text[..trained.answers[0].start], open.text);
        assert!(open.answers.is_empty());
        let bare = Template::Bare.render(&one, "</s>").unwrap();
        assert_eq!(bare.text, "USER: <image>\nWhat? ASSISTANT: A dog.</s>");
        assert_eq!(bare.text[..bare.answers[0].start], Template::Bare.open("What?").text);
    }

    #[test]
    fn plain_is_the_image_and_its_caption() {
        let one = conversation(&[("Describe.", "A dog", true)]);
        let rendered = Template::Plain.render(&one, "</s>").unwrap();
        assert_eq!((rendered.text.as_str(), rendered.answers[0].clone()), ("<image>A dog\n", 7..13));
        let rejection =
            Template::Plain.render(&conversation(&[("a", "b", false)]), "").unwrap_err().to_string();
        assert!(rejection.starts_with("a: a.json:7: ") && rejection.contains("plain"), "{rejection}");
    }

    #[test]
    fn a_token_that_overlaps_an_answer_is_trained() {
        let rendered = Rendered { text: "ab cd".into(), answers: std::iter::once(3..5).collect() };
        let halves = |_: &str, _| -> Result<_, std::convert::Infallible> {
            Ok(vec![Token { id: 1, span: 0..2 }, Token { id: 2, span: 2..4 }, Token { id: 3, span: 4..5 }])
        };
        let mut sequence = rendered.sequence(ImageTokens { id: 0, count: 1 }, halves).unwrap();
        assert_eq!(sequence.trained, [false, true, true]);
        assert_eq!(sequence.truncate(2), 1);
        assert_eq!(sequence.ids, [1, 2]);
    }

    #[test]
    fn an_unknown_template_is_rejected_with_its_name() {
        let rejection = Template::find("v0").unwrap_err().to_string();
        assert!(rejection.contains("`v0`") && rejection.contains("plain"), "{rejection}");
    }
}
