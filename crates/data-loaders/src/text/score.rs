//! Scores of a dataset: accuracy, and the rate of texts that contain no answer at all.
//!
//! Report both: a model that has not learned the format scores below chance, and only the second number shows why.

use serde::{Deserialize, Serialize};

/// Counts for a scored dataset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Rows scored.
    pub rows: usize,
    /// Rows answered correctly.
    pub right: usize,
    /// Rows without an answer, which count as wrong.
    pub unanswered: usize,
}

impl Score {
    /// Adds a row: the extracted answer and the right one.
    pub fn add(&mut self, found: Option<&str>, answer: &str) {
        self.rows += 1;
        self.right += usize::from(found == Some(answer));
        self.unanswered += usize::from(found.is_none());
    }

    /// The score of pairs of extracted and right answer.
    pub fn of<'a>(answers: impl IntoIterator<Item = (Option<&'a str>, &'a str)>) -> Self {
        let mut score = Self::default();
        answers.into_iter().for_each(|(found, answer)| score.add(found, answer));
        score
    }

    /// Share of right answers among all rows; 0 without rows.
    pub fn accuracy(&self) -> f64 {
        share(self.right, self.rows)
    }

    /// Share of rows without an answer; 0 without rows.
    pub fn no_answer_rate(&self) -> f64 {
        share(self.unanswered, self.rows)
    }
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// The mean over datasets, each with the same weight whatever its size; `None` without datasets.
pub fn unweighted_average(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Index of the most likely option: the largest summed log-probability, ties to the first; `None` if any value is NaN.
/// There is no length normalisation: the continuations of a question differ only in the option's last one or two
/// tokens.
pub fn best_option(log_likelihoods: &[f64]) -> Option<usize> {
    if log_likelihoods.iter().any(|value| value.is_nan()) {
        return None;
    }
    (0..log_likelihoods.len()).reduce(
        |best, next| {
            if log_likelihoods[next] > log_likelihoods[best] { next } else { best }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_answer_is_wrong_and_counted_separately() {
        let score =
            Score::of([(Some("true"), "true"), (Some("true"), "false"), (None, "true"), (None, "false")]);
        assert_eq!(score, Score { rows: 4, right: 1, unanswered: 2 });
        assert_eq!((score.accuracy(), score.no_answer_rate()), (0.25, 0.5));
        assert_eq!(Score::default().accuracy(), 0.0);
    }

    #[test]
    fn the_average_does_not_weight_data_sets_by_rows() {
        let sets =
            [Score { rows: 1000, right: 1000, unanswered: 0 }, Score { rows: 10, right: 0, unanswered: 10 }];
        assert_eq!(unweighted_average(&sets.map(|score| score.accuracy())), Some(0.5));
        assert_eq!(unweighted_average(&[]), None);
    }

    #[test]
    fn ties_go_to_the_first_option() {
        assert_eq!(best_option(&[-3.0, -1.0, -1.0]), Some(1));
        assert_eq!(best_option(&[f64::NEG_INFINITY, f64::NEG_INFINITY]), Some(0));
        assert_eq!(best_option(&[-1.0, f64::NAN]), None);
        assert_eq!(best_option(&[]), None);
    }
}
