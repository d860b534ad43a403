//! Two methods on the same items: McNemar's test and the paired bootstrap over single answers.
//!
//! Only the first seed counts: the same items read again under another seed are not new items. Sets
//! whose labels differ between the two runs are left out.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use crate::comparison::DatasetColumn;
use crate::error::ReportError;
use crate::load::Stored;
use crate::load::predictions::{self, Answers};
use crate::statistics::{
    Bootstrap, Discordant, PairedTest, mcnemar_corrected, mcnemar_exact, paired_bootstrap,
};

/// Metrics that are the share of items answered correctly.
const SHARES_OF_RIGHT: [&str; 2] = ["top-1 accuracy", "accuracy of the answer"];

/// Discordant items up to which McNemar's test is exact.
const EXACT_ITEMS: u64 = 1_000;

/// Resamples of the bootstrap, and the seed of its draws.
const RESAMPLES: usize = 2_000;
const BOOTSTRAP_SEED: u64 = 0;

/// One method minus one baseline over single answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ItemTest {
    /// The seed whose answers are compared.
    pub seed: u64,
    /// Sets that both have answers for.
    pub sets: usize,
    /// Items of these sets together.
    pub items: usize,
    /// Items that only one of the two has right, all sets together.
    pub discordant: Discordant,
    /// McNemar's test: exact up to 1,000 discordant items, with the correction for continuity beyond; none
    /// where both are right and wrong on the same items.
    pub mcnemar: Option<PairedTest>,
    /// Its p-value, corrected by Holm for all differences of the comparison.
    pub corrected_p: Option<f64>,
    /// Of the mean over sets of the difference in accuracy, in percentage points, by drawing items anew within
    /// each set.
    pub bootstrap: Option<Bootstrap>,
}

/// Refuses predictions that do not give the recorded score. Other metrics than a share of right answers (F1, soft accuracy)
/// do not follow from them.
fn agrees(answers: &Answers, stored: &Stored, folder: &Path) -> Result<(), ReportError> {
    let metrics = &stored.record.metrics;
    let Some(recorded) = metrics.accuracy.filter(|_| SHARES_OF_RIGHT.contains(&metrics.metric.as_str()))
    else {
        return Ok(());
    };
    let right = answers.right().filter(|right| *right).count() as f64;
    let found = right / answers.labels.len() as f64;
    if (found - recorded).abs() < 1e-6 {
        return Ok(());
    }
    let reason = format!("they give an accuracy of {found:.4}, and the record of the run has {recorded:.4}");
    Err(ReportError::Predictions { path: folder.to_owned(), reason })
}

/// The answers of every method on every set under one seed.
pub(super) struct ItemAnswers {
    seed: u64,
    answers: HashMap<(String, String), Answers>,
}

impl ItemAnswers {
    /// Reads the answers of the first of `seeds`, in parallel. A run that was evaluated on several sets has a file of each,
    /// by its name in the registry.
    pub(super) fn read(records: &[Stored], seeds: &[u64]) -> Result<Self, ReportError> {
        let seed = seeds.first().copied().unwrap_or_default();
        let of_seed = records
            .par_iter()
            .filter(|stored| stored.record.seed == seed && stored.record.metrics.accuracy.is_some());
        let read = |stored: &Stored| -> Result<_, ReportError> {
            let folder = stored.path.parent().unwrap_or(&stored.path);
            let set = stored.record.dataset.name.as_str();
            let key = (stored.record.method.label.clone(), set.to_owned());
            let part = stored.is_part.then(|| set.strip_prefix("mini/").unwrap_or(set));
            let Some(answers) = predictions::read(folder, part)? else { return Ok(None) };
            agrees(&answers, stored, folder)?;
            Ok(Some((key, answers)))
        };
        let answers =
            of_seed.filter_map(|stored| read(stored).transpose()).collect::<Result<_, ReportError>>()?;
        Ok(Self { seed, answers })
    }

    /// Tests two methods by label; none where they share no set.
    pub(super) fn test(&self, method: &str, baseline: &str, sets: &[DatasetColumn]) -> Option<ItemTest> {
        let mut discordant = Discordant::default();
        let mut strata: Vec<Vec<f64>> = Vec::new();
        for set in sets {
            let of = |label: &str| self.answers.get(&(label.to_owned(), set.name.clone()));
            let Some((ours, theirs)) = of(method).zip(of(baseline)) else { continue };
            if ours.labels != theirs.labels || ours.labels.is_empty() {
                continue;
            }
            let differences = ours.right().zip(theirs.right()).map(|(ours, theirs)| match (ours, theirs) {
                (true, false) => 100.0,
                (false, true) => -100.0,
                _ => 0.0,
            });
            strata.push(differences.collect());
        }
        for difference in strata.iter().flatten() {
            discordant.wins += u64::from(*difference > 0.0);
            discordant.losses += u64::from(*difference < 0.0);
        }
        let exact = discordant.wins + discordant.losses <= EXACT_ITEMS;
        (!strata.is_empty()).then(|| ItemTest {
            seed: self.seed,
            sets: strata.len(),
            items: strata.iter().map(Vec::len).sum(),
            discordant,
            mcnemar: if exact { mcnemar_exact(discordant) } else { mcnemar_corrected(discordant) },
            corrected_p: None,
            bootstrap: paired_bootstrap(&strata, RESAMPLES, BOOTSTRAP_SEED),
        })
    }
}
