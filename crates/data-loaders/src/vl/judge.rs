//! One answer against what is known of the right one, by the rule that the benchmark's own evaluation has.
//!
//! A [`Key`] is a rule together with the right answer, so a question carries all that its scoring needs, and a question
//! whose answer the benchmark keeps to itself is [`Key::Withheld`]: it is never given a number.

use serde::{Deserialize, Serialize};

use crate::vl::normalise::{evalai_answer, punctuation, vqa_answer};

/// The right answer and the rule by which an answer is compared with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// VQAv2, VizWiz: the answers of (usually ten) people, and the VQA evaluation's soft accuracy.
    Vqa(Vec<String>),
    /// TextVQA: the same, both sides normalised by EvalAI's code.
    TextVqa(Vec<String>),
    /// GQA: one answer, compared in lower case and without a final period.
    Exact(String),
    /// ScienceQA: an option, from 0, of so many; the letter is searched for in the text.
    Choice {
        /// The right one.
        right: usize,
        /// How many there are.
        options: usize,
    },
    /// MMBench: the same; the text must be the letter itself.
    Letter {
        /// The right one.
        right: usize,
        /// How many there are.
        options: usize,
    },
    /// POPE: whether the thing asked for is there.
    YesNo(bool),
    /// The benchmark's server knows.
    Withheld,
}

/// What became of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The answer as the rule read it; empty where it found none.
    pub answer: String,
    /// In 0..=1; none where the server knows.
    pub score: Option<f64>,
    /// Whether the text holds an answer of the form that was asked for; without one the score is what the rule says.
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
            // LLaVA submits what EvalAI's code makes of a text, and the VQA evaluation normalises that again.
            Self::Vqa(people) => {
                let answer = evalai_answer(text);
                let score = vqa_accuracy(&answer, people);
                judged(answer, score)
            }
            Self::TextVqa(people) => {
                let answer = evalai_answer(text);
                let people: Vec<String> = people.iter().map(|other| evalai_answer(other)).collect();
                let score = soft_accuracy(&answer, &people);
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

/// The VQA evaluation's accuracy (Antol et al. 2015, section 5) of a prediction that is not normalised yet. People's
/// answers lose their punctuation only where they differ, as in the reference.
pub fn vqa_accuracy(prediction: &str, people: &[String]) -> f64 {
    let differ = people.windows(2).any(|pair| pair[0] != pair[1]);
    let people: Vec<String> =
        people.iter().map(|answer| if differ { punctuation(answer) } else { answer.clone() }).collect();
    soft_accuracy(&vqa_answer(prediction), &people)
}

/// min(1, n / 3), n being the people who gave the answer, averaged over leaving each of them out.
fn soft_accuracy(answer: &str, people: &[String]) -> f64 {
    let same = people.iter().filter(|other| *other == answer).count();
    let without = |left_out: &String| (same - usize::from(left_out == answer)).min(3) as f64 / 3.0;
    if people.is_empty() { 0.0 } else { people.iter().map(without).sum::<f64>() / people.len() as f64 }
}

/// GQA: final periods off, lower case.
fn exact_answer(text: &str) -> String {
    text.trim_end_matches('.').to_lowercase()
}

/// ScienceQA as LLaVA reads it: the letter, or `X. ...`, or the one `The answer is X` that something follows.
fn chosen_option(text: &str) -> Option<usize> {
    if let Some(option) = option_of(text) {
        return Some(option);
    }
    if let Some((first, _)) = text.split_once(". ")
        && let Some(option) = option_of(first)
    {
        return Some(option);
    }
    let mut said = text.split("The answer is ").skip(1).filter_map(|rest| {
        let mut characters = rest.chars();
        let letter = characters.next().filter(char::is_ascii_uppercase)?;
        characters.next().filter(|next| *next != '\n').map(|_| letter)
    });
    match (said.next(), said.next()) {
        (Some(letter), None) => option_of(letter.encode_utf8(&mut [0; 4])),
        _ => None,
    }
}

/// The place of a letter from A to E.
fn option_of(text: &str) -> Option<usize> {
    ["A", "B", "C", "D", "E"].iter().position(|letter| *letter == text)
}

fn letter(option: Option<usize>) -> String {
    option.and_then(option_letter).map(String::from).unwrap_or_default()
}

/// The letter of an option, from 0; none beyond Z.
pub fn option_letter(option: usize) -> Option<char> {
    u8::try_from(option).ok().filter(|option| *option < 26).map(|option| char::from(b'A' + option))
}

/// POPE: yes unless `No`, `no` or `not` is a word of the first sentence; commas do not part words, only blanks do.
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

    fn people(answers: &[(&str, usize)]) -> Vec<String> {
        answers.iter().flat_map(|(answer, times)| vec![(*answer).to_owned(); *times]).collect()
    }

    #[test]
    fn soft_accuracy_leaves_each_of_ten_people_out() {
        let ten = people(&[("2", 3), ("3", 7)]);
        // Three of ten: left out one of them 2/3, left out another 3/3.
        let expected = (3.0 * 2.0 / 3.0 + 7.0) / 10.0;
        assert!((vqa_accuracy("two", &ten) - expected).abs() < 1e-12);
        assert!((vqa_accuracy("3", &ten) - 1.0).abs() < 1e-12);
        assert!(vqa_accuracy("4", &ten).abs() < 1e-12);
        assert!(vqa_accuracy("4", &[]).abs() < 1e-12);
    }

    #[test]
    fn an_answer_kept_by_the_server_has_no_score() {
        let judged = Key::Withheld.judge("A dog.");
        assert_eq!((judged.answer.as_str(), judged.score, judged.answered), ("dog", None, true));
    }

    #[test]
    fn a_yes_without_the_word_is_counted_and_marked() {
        let judged = Key::YesNo(true).judge("knot");
        assert_eq!((judged.score, judged.answered), (Some(1.0), false));
        assert!(Key::YesNo(false).judge("No, it is not.").answered);
    }
}
