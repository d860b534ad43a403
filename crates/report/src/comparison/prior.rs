//! The accuracy of a question-only prior that never sees the image, where the records report it, and the methods that
//! exceed it.

use crate::comparison::Comparison;
use crate::record::Record;

/// Name of the number in [`crate::record::Evaluation::further`].
const PRIOR: &str = "question_only_prior";

/// An additional metric of the single set that a row of records covers.
pub(super) fn further(record: &Record, number: &str) -> Option<f64> {
    match &record.metrics.evaluations[..] {
        [only] if only.dataset.name == record.dataset.name => only.further.get(number).copied(),
        _ => None,
    }
}

impl Comparison {
    /// The prior of each set in percent, and on how many sets each method's mean is above it; `None` if records have
    /// no priors.
    pub(crate) fn prior_in_words(&self) -> Option<String> {
        let prior_of = |name: &str| {
            let records = self.records.iter().map(|stored| &stored.record);
            let mut own = records.filter(|record| record.dataset.name == name);
            own.find_map(|record| further(record, PRIOR)).map(|prior| 100.0 * prior)
        };
        let priors: Vec<Option<f64>> = self.datasets.iter().map(|set| prior_of(&set.name)).collect();
        let known = || self.datasets.iter().zip(&priors).filter_map(|(set, prior)| Some((set, (*prior)?)));
        let count = known().count();
        if count == 0 {
            return None;
        }
        let listed: Vec<String> = known().map(|(set, prior)| format!("{} {prior:.1}", set.name)).collect();
        #[allow(clippy::cast_precision_loss)]
        let mean = known().map(|(_, prior)| prior).sum::<f64>() / count as f64;
        let above = self.rows.iter().map(|row| {
            let above = row.cells.iter().zip(&priors).filter(|(cell, prior)| {
                cell.spread.zip(**prior).is_some_and(|(spread, prior)| spread.mean > prior)
            });
            format!("{} {}", row.label, above.count())
        });
        Some(format!(
            "Question-only prior (the most frequent training answer to the text of each question, or always the same \
             answer, without the image): {}; mean {mean:.1}. Number of the {count} data sets on which the mean of a method \
             exceeds it: {}.",
            listed.join(", "),
            above.collect::<Vec<_>>().join(", ")
        ))
    }
}
