//! Scores one answer with the rule of the benchmark's own evaluation.
//!
//! A [`Key`] combines a rule with the right answer, so a question carries everything its scoring needs. A question
//! whose answer is not public has [`Key::Withheld`] and never gets a score.

use serde::{Deserialize, Serialize};

use crate::vl::normalise::{evalai_answer, stripped, vqa_answer};

/// The right answer and the rule for comparing an answer with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// VQAv2, VizWiz: the (usually ten) annotators' answers, scored with the VQA evaluation's soft accuracy.
    Vqa(Vec<String>),
    /// TextVQA: the same, with both sides normalised by EvalAI's code.
    TextVqa(Vec<String>),
    /// GQA: one answer, compared in lower case and without a final period.
    Exact(String),
    /// ScienceQA: an option, counting from 0; its letter is extracted from the text.
    Choice {
        /// Index of the right option.
        right: usize,
        /// Number of options.
        options: usize,
    },
    /// MMBench: the same, but the text must be the letter itself.
    Letter {
        /// Index of the right option.
        right: usize,
        /// Number of options.
        options: usize,
    },
    /// POPE: whether the object asked for is present.
    YesNo(bool),
    /// Known only to the benchmark's server.
    Withheld,
}

/// The result of judging an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The extracted answer; empty if there is none.
    pub answer: String,
    /// In 0..=1; `None` if only the server knows.
    pub score: Option<f64>,
    /// Whether the text contains an answer in the requested format; if not, the score still follows the rule.
    pub answered: bool,
}

impl Key {
    /// Judges a generated text.
    pub fn judge(&self, text: &str) -> Judgement {
        let text = text.trim();
        let judged = |answer: String, score: f64| Judgement {
            answered: !answer.is_empty(),
            answer,
            score: Some(score),
        };
        match self {
            // LLaVA submits the output of EvalAI's code, which the VQA evaluation normalises again.
            Self::Vqa(annotators) => {
                let answer = evalai_answer(text);
                let score = vqa_accuracy(&answer, annotators);
                judged(answer, score)
            }
            Self::TextVqa(annotators) => {
                let answer = evalai_answer(text);
                let annotators: Vec<String> = annotators.iter().map(|other| evalai_answer(other)).collect();
                let score = soft_accuracy(&answer, &annotators);
                judged(answer, score)
            }
            Self::Exact(right) => {
                let answer = exact_answer(text);
                let score = share(answer == right.to_lowercase());
                judged(answer, score)
            }
            Self::Choice { right, options } => {
                let found = chosen_option(text).filter(|option| option < options);
                judged(letter(found), share(found == Some(*right)))
            }
            Self::Letter { right, options } => {
                let found = option_of(text).filter(|option| option < options);
                judged(letter(found), share(found == Some(*right)))
            }
            Self::YesNo(right) => {
                let yes = says_yes(text);
                let answer = if yes { "yes" } else { "no" }.to_owned();
                Judgement { answered: !yes || names_yes(text), answer, score: Some(share(yes == *right)) }
            }
            Self::Withheld => {
                let answer = evalai_answer(text);
                Judgement { answered: !answer.is_empty(), answer, score: None }
            }
        }
    }
}

fn share(right: bool) -> f64 {
    if right { 1.0 } else { 0.0 }
}

/// The VQA evaluation's accuracy (Antol et al. 2015, section 5; GT-Vision-Lab/VQA since its correction a013f00 of 2021)
/// of an unnormalised prediction: both sides are normalised if the annotators differ, and neither if they agree.
pub fn vqa_accuracy(prediction: &str, annotators: &[String]) -> f64 {
    let annotators: Vec<String> = annotators.iter().map(|answer| stripped(answer)).collect();
    if annotators.windows(2).all(|pair| pair[0] == pair[1]) {
        return soft_accuracy(&stripped(prediction), &annotators);
    }
    let annotators: Vec<String> = annotators.iter().map(|answer| vqa_answer(answer)).collect();
    soft_accuracy(&vqa_answer(prediction), &annotators)
}

/// min(1, n / 3), where n is the number of annotators who gave the answer, averaged over leaving each of them out.
fn soft_accuracy(answer: &str, annotators: &[String]) -> f64 {
    let same = annotators.iter().filter(|other| *other == answer).count();
    let without = |left_out: &String| (same - usize::from(left_out == answer)).min(3) as f64 / 3.0;
    if annotators.is_empty() {
        0.0
    } else {
        annotators.iter().map(without).sum::<f64>() / annotators.len() as f64
    }
}

/// GQA: trailing periods removed, lower case.
fn exact_answer(text: &str) -> String {
    text.trim_end_matches('.').to_lowercase()
}

/// ScienceQA as in LLaVA: the letter, or `X. ...`, or a single `The answer is X` followed by another character.
fn chosen_option(text: &str) -> Option<usize> {
    if let Some(option) = option_of(text) {
        return Some(option);
    }
    if let Some((first, _)) = text.split_once(". ")
        && let Some(option) = option_of(first)
    {
        return Some(option);
    }
    let mut stated = text.split("The answer is ").skip(1).filter_map(|rest| {
        let mut characters = rest.chars();
        let letter = characters.next().filter(char::is_ascii_uppercase)?;
        characters.next().filter(|next| *next != '\n').map(|_| letter)
    });
    match (stated.next(), stated.next()) {
        (Some(letter), None) => option_of(letter.encode_utf8(&mut [0; 4])),
        _ => None,
    }
}

/// The index of a letter from A to E.
fn option_of(text: &str) -> Option<usize> {
    ["A", "B", "C", "D", "E"].iter().position(|letter| *letter == text)
}

fn letter(option: Option<usize>) -> String {
    option.and_then(option_letter).map(String::from).unwrap_or_default()
}

/// The letter of an option, counting from 0; `None` beyond Z.
pub fn option_letter(option: usize) -> Option<char> {
    u8::try_from(option).ok().filter(|option| *option < 26).map(|option| char::from(b'A' + option))
}

/// POPE: yes unless `No`, `no` or `not` is a word of the first sentence; words are separated by spaces only, not
/// commas.
fn says_yes(text: &str) -> bool {
    let sentence = text.split('.').next().unwrap_or_default().replace(',', "");
    !sentence.split(' ').any(|word| matches!(word, "No" | "not" | "no"))
}

fn names_yes(text: &str) -> bool {
    text.split(|character: char| !character.is_alphabetic()).any(|word| word.eq_ignore_ascii_case("yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotators(answers: &[(&str, usize)]) -> Vec<String> {
        answers.iter().flat_map(|(answer, times)| vec![(*answer).to_owned(); *times]).collect()
    }

    #[test]
    fn soft_accuracy_leaves_out_each_of_ten_annotators() {
        let ten = annotators(&[("2", 3), ("3", 7)]);
        // Three of ten: 2/3 when one of them is left out, 3/3 when another annotator is.
        let expected = (3.0 * 2.0 / 3.0 + 7.0) / 10.0;
        assert!((vqa_accuracy("two", &ten) - expected).abs() < 1e-12);
        assert!((vqa_accuracy("3", &ten) - 1.0).abs() < 1e-12);
        assert!(vqa_accuracy("4", &ten).abs() < 1e-12);
        assert!(vqa_accuracy("4", &[]).abs() < 1e-12);
    }

    #[test]
    fn an_answer_withheld_by_the_server_has_no_score() {
        let judged = Key::Withheld.judge("A dog.");
        assert_eq!((judged.answer.as_str(), judged.score, judged.answered), ("dog", None, true));
    }

    #[test]
    fn an_implicit_yes_is_scored_but_marked_as_unanswered() {
        let judged = Key::YesNo(true).judge("knot");
        assert_eq!((judged.score, judged.answered), (Some(1.0), false));
        assert!(Key::YesNo(false).judge("No, it is not.").answered);
    }
}
