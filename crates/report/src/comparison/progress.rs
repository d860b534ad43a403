//! How much of a table's plan is finished: a table must report which runs are missing.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::load::Stored;
use crate::load::plans::{PlannedRun, RunPlan};

/// Maximum number of missing runs listed by name; the rest are only counted.
const MAX_LISTED: usize = 4;

/// The runs that were requested on one backbone, and those without a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Distinguishes the plan's settings from others.
    pub settings: String,
    /// Seeds of the planned runs.
    pub seeds: BTreeSet<u64>,
    /// Number of planned runs.
    pub planned: usize,
    /// Method, data set and seed of each run without a record.
    pub missing: Vec<String>,
}

impl Progress {
    pub(super) fn of(plan: &RunPlan, backbone: &str, records: &[Stored]) -> Self {
        let finished: BTreeSet<&str> = records.iter().map(|stored| stored.record.run.as_str()).collect();
        let planned = || plan.runs.iter().filter(|run| run.place.backbone == backbone);
        let missing = planned().filter(|run| !finished.contains(run.name.as_str())).map(describe).collect();
        Self {
            settings: plan.id(),
            seeds: planned().map(|run| run.place.seed).collect(),
            planned: planned().count(),
            missing,
        }
    }

    /// What is missing, as a sentence; `None` if nothing is.
    pub(crate) fn in_words(&self) -> Option<String> {
        let missing = self.missing.len();
        if missing == 0 {
            return None;
        }
        let named = self.missing.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join("; ");
        let more = missing.saturating_sub(MAX_LISTED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Some(format!("{missing} of {} planned runs are missing: {named}{more}.", self.planned))
    }
}

fn describe(PlannedRun { place, .. }: &PlannedRun) -> String {
    format!("{}, {}, seed {}", place.label, place.dataset, place.seed)
}
