//! Aggregates the judged answers of one dataset: the mean score, the no-answer rate, and POPE's five metrics per part.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::vl::judge::{Judgement, Key};

/// Counts of yes/no answers, with yes as the positive class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct YesNoCounts {
    /// Answered yes, correct.
    pub true_yes: usize,
    /// Answered yes, wrong.
    pub false_yes: usize,
    /// Answered no, correct.
    pub true_no: usize,
    /// Answered no, wrong.
    pub false_no: usize,
}

impl YesNoCounts {
    fn add(&mut self, right: bool, answered_yes: bool) {
        let count = match (right, answered_yes) {
            (true, true) => &mut self.true_yes,
            (false, true) => &mut self.false_yes,
            (false, false) => &mut self.true_no,
            (true, false) => &mut self.false_no,
        };
        *count += 1;
    }

    fn all(&self) -> usize {
        self.true_yes + self.false_yes + self.true_no + self.false_no
    }

    /// Share of correct answers.
    pub fn accuracy(&self) -> f64 {
        ratio(self.true_yes + self.true_no, self.all())
    }

    /// Share of correct answers among yes answers; 0 if there are none.
    pub fn precision(&self) -> f64 {
        ratio(self.true_yes, self.true_yes + self.false_yes)
    }

    /// Share of yes answers among questions whose answer is yes.
    pub fn recall(&self) -> f64 {
        ratio(self.true_yes, self.true_yes + self.false_no)
    }

    /// Harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        ratio(2 * self.true_yes, 2 * self.true_yes + self.false_yes + self.false_no)
    }

    /// Share of yes answers.
    pub fn yes_ratio(&self) -> f64 {
        ratio(self.true_yes + self.false_yes, self.all())
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The answers of one dataset.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tally {
    answers: usize,
    unanswered: usize,
    withheld: usize,
    total: f64,
    parts: BTreeMap<String, YesNoCounts>,
}

impl Tally {
    /// Adds a judged answer; `part` names the part of the dataset (POPE's `random`, `popular` and `adversarial`).
    pub fn add(&mut self, key: &Key, part: &str, judged: &Judgement) {
        self.answers += 1;
        self.unanswered += usize::from(!judged.answered);
        match judged.score {
            Some(score) => self.total += score,
            None => self.withheld += 1,
        }
        if let Key::YesNo(right) = key {
            self.parts.entry(part.to_owned()).or_default().add(*right, judged.answer == "yes");
        }
    }

    /// The dataset's score in 0..=1: the mean F1 over the parts for yes/no questions, otherwise the mean score. `None`
    /// if there is nothing to score, or while any answer still needs a server.
    pub fn score(&self) -> Option<f64> {
        if self.withheld > 0 || self.answers == 0 {
            None
        } else if self.parts.is_empty() {
            Some(self.total / self.answers as f64)
        } else {
            Some(self.parts.values().map(YesNoCounts::f1).sum::<f64>() / self.parts.len() as f64)
        }
    }

    /// Share of texts without an answer in the requested format.
    pub fn no_answer_rate(&self) -> f64 {
        ratio(self.unanswered, self.answers)
    }

    /// Number of answers that only a server can score.
    pub fn pending(&self) -> usize {
        self.withheld
    }

    /// The counts by part name; empty unless the questions are yes/no questions.
    pub fn parts(&self) -> &BTreeMap<String, YesNoCounts> {
        &self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(answers: &[(bool, &str, &str)]) -> Tally {
        let mut tally = Tally::default();
        for (right, part, text) in answers {
            let key = Key::YesNo(*right);
            tally.add(&key, part, &key.judge(text));
        }
        tally
    }

    #[test]
    fn pope_has_five_metrics_per_part_and_its_score_is_the_mean_f1() {
        let random = [(true, "random", "Yes"), (true, "random", "No"), (false, "random", "Yes, a dog")];
        let popular =
            [(true, "popular", "yes"), (false, "popular", "There is not."), (false, "popular", "no")];
        let tally = tally(&[random, popular].concat());
        let counts = tally.parts()["random"];
        assert_eq!(counts, YesNoCounts { true_yes: 1, false_yes: 1, true_no: 0, false_no: 1 });
        let near = |one: f64, other: f64| assert!((one - other).abs() < 1e-12, "{one} {other}");
        near(counts.accuracy(), 1.0 / 3.0);
        near(counts.precision(), 0.5);
        near(counts.recall(), 0.5);
        near(counts.f1(), 0.5);
        near(counts.yes_ratio(), 2.0 / 3.0);
        near(tally.score().unwrap(), 0.75);
    }

    #[test]
    fn one_withheld_answer_leaves_the_data_set_without_a_score() {
        let mut tally = Tally::default();
        let known = Key::Exact("cat".into());
        tally.add(&known, "", &known.judge("Cat."));
        assert_eq!(tally.score(), Some(1.0));
        tally.add(&Key::Withheld, "", &Key::Withheld.judge(""));
        assert_eq!((tally.score(), tally.pending()), (None, 1));
        assert!((tally.no_answer_rate() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn without_yes_answers_the_metrics_are_zero() {
        let counts = tally(&[(true, "", "no"), (false, "", "no")]).parts()[""];
        assert!(counts.precision().abs() + counts.f1().abs() + counts.yes_ratio().abs() < 1e-12);
    }
}
