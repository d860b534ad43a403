//! Extracts the answer from a generated text: one rule per format, the first case-sensitive match of a pattern.
//!
//! The patterns are those of LLM-Adapters' evaluation (Hu et al. 2023). They match anywhere, even inside a longer word
//! ("untrue" contains "true"); that is part of the protocol and not corrected here.

use crate::registry::AnswerFormat;

use crate::text::prompt::RESPONSE_MARK;

impl AnswerFormat {
    /// All formats.
    pub const ALL: [Self; 5] = [Self::TrueFalse, Self::Solution, Self::Answer, Self::Ending, Self::Option];

    /// All answers matched by the format's pattern, in order; a question may offer fewer.
    pub fn options(self) -> impl Iterator<Item = &'static str> {
        let options: &[&str] = match self {
            Self::TrueFalse => &["true", "false"],
            Self::Solution => &["solution1", "solution2"],
            Self::Answer => &["answer1", "answer2", "answer3", "answer4", "answer5"],
            Self::Ending => &["ending1", "ending2", "ending3", "ending4"],
            Self::Option => &["option1", "option2"],
        };
        options.iter().copied()
    }

    /// The format that contains this answer.
    pub fn of_answer(answer: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.options().any(|option| option == answer))
    }

    /// The answer in a generated text, with or without its prompt: the first match after the last `### Response:`.
    /// `None` means no answer, which counts as wrong.
    pub fn extract(self, generated: &str) -> Option<&'static str> {
        let response = generated.rsplit(RESPONSE_MARK).next().unwrap_or(generated);
        // No option is a prefix of another, so at most one matches at a position.
        let places = self.options().filter_map(|option| Some((response.find(option)?, option)));
        places.min().map(|(_, option)| option)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_counts_wherever_it_occurs() {
        for (format, text, expected) in [
            (AnswerFormat::TrueFalse, "the correct answer is true", Some("true")),
            (AnswerFormat::TrueFalse, "It is false, not true.", Some("false")),
            (AnswerFormat::TrueFalse, "that is untrue, so false", Some("true")),
            (AnswerFormat::Solution, "solution3 or solution2 or solution1", Some("solution2")),
            (AnswerFormat::Answer, "answer12", Some("answer1")),
            (AnswerFormat::Answer, "the answer is answer5answer2", Some("answer5")),
            (AnswerFormat::Ending, "ending5, ending4", Some("ending4")),
            (AnswerFormat::Option, "option 1, option2", Some("option2")),
        ] {
            assert_eq!(format.extract(text), expected, "{text}");
        }
    }

    #[test]
    fn other_case_other_formats_and_other_numbers_are_not_answers() {
        for (format, text) in [
            (AnswerFormat::TrueFalse, "True. FALSE. yes"),
            (AnswerFormat::Solution, "Solution1 solution3 answer1 solution"),
            (AnswerFormat::Answer, "answer6 answer0 answer 1 Answer2"),
            (AnswerFormat::Ending, "ending5 ending0"),
            (AnswerFormat::Option, "option3"),
            (AnswerFormat::Answer, ""),
        ] {
            assert_eq!(format.extract(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_text_after_the_last_response_mark_counts() {
        let prompt = "choose answer1 ### Response: answer2 ### Response:\n";
        assert_eq!(AnswerFormat::Answer.extract(prompt), None);
        assert_eq!(AnswerFormat::Answer.extract(&format!("{prompt} answer3")), Some("answer3"));
    }

    #[test]
    fn an_answer_belongs_to_one_format() {
        for format in AnswerFormat::ALL {
            assert!(format.options().all(|option| AnswerFormat::of_answer(option) == Some(format)));
        }
        assert_eq!(AnswerFormat::of_answer("answer6"), None);
    }
}
