//! Sets that were read and that only a server can score: they have no column, and a note says so.

use std::collections::BTreeMap;

use crate::comparison::Comparison;

impl Comparison {
    /// The sets whose scores are pending, and the files for their servers; none where there are none.
    pub(crate) fn pending_in_words(&self) -> Option<String> {
        let pending = self.records.iter().flat_map(|stored| &stored.record.metrics.pending);
        let files: BTreeMap<&str, &str> =
            pending.map(|one| (one.dataset.as_str(), one.file.as_str())).collect();
        if files.is_empty() {
            return None;
        }
        let listed: Vec<String> = files.iter().map(|(set, file)| format!("{set} ({file})")).collect();
        Some(format!(
            "Pending, because only their servers know the answers: {}. The files to submit are next to each run's record.",
            listed.join(", ")
        ))
    }
}
