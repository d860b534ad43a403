//! Evaluated data sets that only a server can score: without a column until their scores are entered, and named in a
//! note either way.

use std::collections::{BTreeMap, BTreeSet};

use crate::comparison::Comparison;
use crate::load::server_scores::SERVER_METRIC;

impl Comparison {
    /// The data sets whose scores are pending, with the submission files, and those whose scores were entered by hand.
    pub(crate) fn pending_in_words(&self) -> Vec<String> {
        let by_server = |metric: &str| metric.starts_with(SERVER_METRIC);
        let entered: BTreeSet<&str> = self
            .records
            .iter()
            .filter(|stored| by_server(&stored.record.metrics.metric))
            .map(|stored| stored.record.dataset.name.as_str())
            .collect();
        let pending = self.records.iter().flat_map(|stored| &stored.record.metrics.pending);
        let files: BTreeMap<&str, &str> = pending
            .filter(|one| !entered.contains(one.dataset.as_str()))
            .map(|one| (one.dataset.as_str(), one.file.as_str()))
            .collect();
        let mut notes = Vec::new();
        if !files.is_empty() {
            let listed: Vec<String> = files.iter().map(|(set, file)| format!("{set} ({file})")).collect();
            notes.push(format!(
                "Pending, because only the server of the benchmark has the answers: {}. The submission files are next to \
                 the record of each run; `san score` enters what the server returns.",
                listed.join(", ")
            ));
        }
        if !entered.is_empty() {
            notes.push(format!(
                "Entered by hand as returned by the benchmark's server, not computed here: {}.",
                Vec::from_iter(entered).join(", ")
            ));
        }
        notes
    }
}
