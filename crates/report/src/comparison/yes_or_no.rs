//! Data sets whose metric is the F1 of "yes" (POPE): the underlying metrics, which expose a model that always answers yes.

use crate::comparison::Comparison;
use crate::comparison::prior::further;
use crate::statistics::mean;

/// Names of the numbers in [`crate::record::Evaluation::further`], as they appear in a note.
const NUMBERS: [(&str, &str); 4] =
    [("accuracy", "accuracy"), ("precision", "precision"), ("recall", "recall"), ("yes_ratio", "yes ratio")];

impl Comparison {
    /// A sentence for each such set: the numbers of each method in percent, means over seeds.
    pub(crate) fn yes_or_no_in_words(&self) -> Vec<String> {
        let sentence = |set: &str| {
            let listed: Vec<String> =
                self.rows.iter().filter_map(|row| self.yes_or_no_of(&row.label, set)).collect();
            let names = NUMBERS.map(|(_, label)| label).join(" / ");
            let listed = (!listed.is_empty()).then(|| listed.join("; "))?;
            Some(format!("{set}: the score is the F1 of yes; {names} in %: {listed}."))
        };
        self.datasets.iter().filter_map(|set| sentence(&set.name)).collect()
    }

    fn yes_or_no_of(&self, label: &str, set: &str) -> Option<String> {
        let records: Vec<_> = self
            .records
            .iter()
            .map(|stored| &stored.record)
            .filter(|record| record.method.label == label && record.dataset.name == set)
            .collect();
        let numbers = NUMBERS.map(|(name, _)| {
            let values: Vec<f64> = records.iter().filter_map(|record| further(record, name)).collect();
            mean(&values).map(|mean| format!("{:.1}", 100.0 * mean))
        });
        let numbers: Vec<String> = numbers.into_iter().collect::<Option<_>>()?;
        Some(format!("{label} {}", numbers.join(" / ")))
    }
}
