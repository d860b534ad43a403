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

    /// Whether every candidate is done.
    fn is_tuned(&self, tune: &[Run], store: &Store) -> Result<bool> {
        let candidates = tune[self.candidates.clone()].iter();
        let names = candidates.map(Run::name).collect::<Result<Vec<String>, _>>()?;
        Ok(names.iter().all(|name| store.is_done(name)))
    }

    fn following(&self, candidate: &Run) -> Run {
        let mut run = self.run.clone();
        run.learning_rate = candidate.learning_rate;
        run.options.clone_from(&candidate.options);
        run.protocol.clone_from(&candidate.protocol);
        run
    }
}

/// The runs of a table after the first stage.
#[derive(Debug, Clone, Default)]
pub struct ChosenRuns {
    /// Runs with the settings that were chosen for them.
    pub runs: Vec<Run>,
    /// Runs whose tuning is not complete, because a candidate failed; with the settings of the first candidate.
    pub untuned: Vec<Run>,
}

impl ChosenRuns {
    /// All runs of the table.
    pub fn all(&self) -> Vec<Run> {
        [self.runs.clone(), self.untuned.clone()].concat()
    }
}

/// [`FinalRun::choose`] for all whose candidates are done; runs that share candidates read them once.
///
/// # Errors
/// When a candidate's record is corrupt.
pub fn choose_all(tune: &[Run], finals: &[FinalRun], store: &Store) -> Result<ChosenRuns> {
    let mut chosen = ChosenRuns::default();
    for (index, row) in finals.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| &finals[before]);
        let shared =
            before.filter(|before| !row.candidates.is_empty() && before.candidates == row.candidates);
        match (shared, chosen.runs.last()) {
            (Some(_), Some(last)) if chosen.untuned.is_empty() => chosen.runs.push(row.following(last)),
            _ if row.is_tuned(tune, store)? => chosen.runs.push(row.choose(tune, store)?),
            _ => chosen.untuned.push(row.run.clone()),
        }
    }
    Ok(chosen)
}
