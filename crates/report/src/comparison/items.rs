//! Compares two methods on the same items: McNemar's test and the paired bootstrap over individual predictions.
//!
//! This is a secondary view: it compares two trained models rather than two methods, because the variance between
//! trainings is left out. Only the first seed is used: evaluating the same items with another seed does not give new items. Data sets
//! whose labels differ between the two runs are excluded.

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

/// Metrics that are the fraction of items answered correctly.
const FRACTIONS_CORRECT: [&str; 2] = ["top-1 accuracy", "accuracy of the answer"];

/// Maximum number of discordant items for which McNemar's test is exact.
const EXACT_ITEMS: u64 = 1_000;

/// Number of bootstrap resamples, and their seed.
const RESAMPLES: usize = 2_000;
const BOOTSTRAP_SEED: u64 = 0;

/// One method minus one baseline over individual predictions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ItemTest {
    /// The seed whose predictions are compared.
    pub seed: u64,
    /// Number of data sets for which both have predictions.
    pub sets: usize,
    /// Total number of items in these data sets.
    pub items: usize,
    /// Items that only one of the two predicts correctly, over all data sets.
    pub discordant: Discordant,
    /// McNemar's test: exact up to 1,000 discordant items, with the continuity correction beyond; `None` if both
    /// are correct on the same items.
    pub mcnemar: Option<PairedTest>,
    /// Its p-value, corrected by Holm for all differences of the comparison.
    pub corrected_p: Option<f64>,
    /// The mean over data sets of the difference in accuracy, in percentage points; items are resampled within each
    /// data set.
    pub bootstrap: Option<Bootstrap>,
}

/// Rejects predictions that are inconsistent with the recorded score. Metrics other than a fraction of correct answers (F1,
/// soft accuracy) cannot be recomputed from them.
fn check_score(answers: &Answers, stored: &Stored, folder: &Path) -> Result<(), ReportError> {
    let metrics = &stored.record.metrics;
    let Some(recorded) = metrics.accuracy.filter(|_| FRACTIONS_CORRECT.contains(&metrics.metric.as_str()))
    else {
        return Ok(());
    };
    let correct = answers.right().filter(|right| *right).count() as f64;
    let found = correct / answers.labels.len() as f64;
    if (found - recorded).abs() < 1e-6 {
        return Ok(());
    }
    let reason = format!("they give an accuracy of {found:.4}, but the record of the run has {recorded:.4}");
    Err(ReportError::Predictions { path: folder.to_owned(), reason })
}

/// The predictions of every method on every data set with one seed.
pub(super) struct ItemAnswers {
    seed: u64,
    answers: HashMap<(String, String), Answers>,
}

impl ItemAnswers {
    /// Reads the predictions with this seed, in parallel. A run that was evaluated on several data sets has a file for
    /// each, named after its registry name.
    pub(super) fn read(records: &[Stored], seed: u64) -> Result<Self, ReportError> {
        let of_seed = records
            .par_iter()
            .filter(|stored| stored.record.seed == seed && stored.record.metrics.accuracy.is_some());
        let read = |stored: &Stored| -> Result<_, ReportError> {
            let folder = stored.path.parent().unwrap_or(&stored.path);
            let set = stored.record.dataset.name.as_str();
            let key = (stored.record.method.label.clone(), set.to_owned());
            let part = stored.is_part.then(|| set.strip_prefix("mini/").unwrap_or(set));
            let Some(answers) = predictions::read(folder, part)? else { return Ok(None) };
            check_score(&answers, stored, folder)?;
            Ok(Some((key, answers)))
        };
        let answers =
            of_seed.filter_map(|stored| read(stored).transpose()).collect::<Result<_, ReportError>>()?;
        Ok(Self { seed, answers })
    }

    /// Compares two methods by label; `None` if they share no data set.
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
