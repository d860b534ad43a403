//! Evaluated data sets that only a server can score: they have no column but are listed in a note.

use std::collections::BTreeMap;

use crate::comparison::Comparison;

impl Comparison {
    /// The data sets whose scores are pending, and the submission files; `None` if there are none.
    pub(crate) fn pending_in_words(&self) -> Option<String> {
        let pending = self.records.iter().flat_map(|stored| &stored.record.metrics.pending);
        let files: BTreeMap<&str, &str> =
            pending.map(|one| (one.dataset.as_str(), one.file.as_str())).collect();
        if files.is_empty() {
            return None;
        }
        let listed: Vec<String> = files.iter().map(|(set, file)| format!("{set} ({file})")).collect();
        Some(format!(
            "Pending, because only the server of the benchmark has the answers: {}. The submission files are next to the \
             record of each run.",
            listed.join(", ")
        ))
    }
}
