//! Selects the tuned runs whose settings the table's runs take.

use std::ops::Range;

use anyhow::Result;
use report::record::{RECORD_FILE, Record, State};
use serde::{Deserialize, Serialize};

use crate::store::Store;
use crate::tasks::Run;

/// A run of the table, with the indices of the runs that its settings are selected from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FinalRun {
    /// The run; its settings are those of the first candidate until one is selected.
    pub run: Run,
    /// Indices into the runs of the first stage; empty if everything is fixed.
    pub candidates: Range<usize>,
}

impl FinalRun {
    /// The run with the settings of the candidate that was best on `val`.
    ///
    /// # Errors
    /// When a candidate's record is missing or corrupt.
    pub fn choose(&self, tune: &[Run], store: &Store) -> Result<Run> {
        let mut best: Option<(&Run, Option<f64>)> = None;
        for candidate in &tune[self.candidates.clone()] {
            let record = Record::read(&store.run(&candidate.name()?).join(RECORD_FILE))?;
            // A diverged run loses to every other; ties go to the first one in the order of the file.
            let accuracy = record.metrics.accuracy.filter(|_| record.state == State::Finished);
            if best.is_none_or(|(_, best)| accuracy > best) {
                best = Some((candidate, accuracy));
            }
        }
        Ok(best.map_or_else(|| self.run.clone(), |(candidate, _)| self.following(candidate)))
    }

    fn following(&self, candidate: &Run) -> Run {
        let mut run = self.run.clone();
        run.learning_rate = candidate.learning_rate;
        run.options.clone_from(&candidate.options);
        run.protocol.clone_from(&candidate.protocol);
        run
    }
}

/// [`FinalRun::choose`] for all; runs that share candidates read them once.
///
/// # Errors
/// When a candidate's record is missing or corrupt.
pub fn choose_all(tune: &[Run], finals: &[FinalRun], store: &Store) -> Result<Vec<Run>> {
    let mut chosen: Vec<Run> = Vec::with_capacity(finals.len());
    for (index, row) in finals.iter().enumerate() {
        let run = match index.checked_sub(1).map(|before| &finals[before]) {
            _ if row.candidates.is_empty() => row.run.clone(),
            Some(before) if before.candidates == row.candidates => row.following(&chosen[index - 1]),
            _ => row.choose(tune, store)?,
        };
        chosen.push(run);
    }
    Ok(chosen)
}
