//! Runs of a plan that were left out because they do not fit into the memory of the device: shown in a table as such, not
//! as missing.

use serde::Serialize;

use crate::load::Stored;
use crate::load::plans::RunPlan;

/// The runs of one method that were left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Name of the method's row.
    pub label: String,
    /// The data sets, or the suite where one model is trained for all sets.
    pub datasets: Vec<String>,
    /// What they need and what there is, in words.
    pub reason: String,
}

impl LeftOut {
    /// The runs of a plan on one backbone that were left out and have no record from another device, by method.
    pub(super) fn of(plan: &RunPlan, backbone: &str, records: &[Stored]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for run in plan.runs.iter().filter(|run| run.place.backbone == backbone) {
            let Some(reason) = &run.does_not_fit else { continue };
            if records.iter().any(|stored| stored.record.run == run.name) {
                continue;
            }
            let (label, dataset) = (run.place.label.clone(), run.place.dataset.clone());
            match all.iter_mut().find(|one| one.label == label) {
                Some(one) if one.datasets.contains(&dataset) => {}
                Some(one) => one.datasets.push(dataset),
                None => all.push(Self { label, datasets: vec![dataset], reason: reason.clone() }),
            }
        }
        all
    }

    /// Whether the method was left out on a data set of a suite.
    pub(crate) fn covers(&self, dataset: &str, suite: &str) -> bool {
        self.datasets.iter().any(|one| one == dataset || is_suite(one, suite))
    }

    /// As a note below a table.
    pub(crate) fn in_words(&self) -> String {
        format!("{} was left out: {}.", self.label, self.reason)
    }
}

/// Whether a place names a suite; `mini/<suite>` if its data are synthetic.
fn is_suite(place: &str, suite: &str) -> bool {
    place == suite || place.strip_prefix("mini/") == Some(suite)
}
