//! Which of the tuned cells the table's cells follow.

use std::ops::Range;

use anyhow::Result;
use report::record::{RECORD_FILE, Record, State};
use serde::{Deserialize, Serialize};

use crate::plan::cell::Cell;
use crate::store::Store;

/// A cell of the table, with the place of the cells that its settings are chosen by.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FinalCell {
    /// The cell; its settings are the first candidate's until one is chosen.
    pub cell: Cell,
    /// Indices into the cells of the first stage; empty where everything is fixed.
    pub candidates: Range<usize>,
}

impl FinalCell {
    /// The cell with the settings of the candidate that was best on `val`.
    ///
    /// # Errors
    /// When a candidate's record is missing or broken.
    pub fn choose(&self, tune: &[Cell], store: &Store) -> Result<Cell> {
        let mut best: Option<(&Cell, Option<f64>)> = None;
        for candidate in &tune[self.candidates.clone()] {
            let record = Record::read(&store.cell(&candidate.name()).join(RECORD_FILE))?;
            // A diverged run loses to every other; of equals the first in the file's order wins.
            let accuracy = record.metrics.accuracy.filter(|_| record.state == State::Finished);
            if best.is_none_or(|(_, best)| accuracy > best) {
                best = Some((candidate, accuracy));
            }
        }
        Ok(best.map_or_else(|| self.cell.clone(), |(candidate, _)| self.following(candidate)))
    }

    fn following(&self, candidate: &Cell) -> Cell {
        let mut cell = self.cell.clone();
        cell.learning_rate = candidate.learning_rate;
        cell.options.clone_from(&candidate.options);
        cell.protocol.weight_decay = candidate.protocol.weight_decay;
        cell.protocol.drop_path = candidate.protocol.drop_path;
        cell
    }
}

/// [`FinalCell::choose`] for all; cells that share candidates read them once.
///
/// # Errors
/// When a candidate's record is missing or broken.
pub fn choose_all(tune: &[Cell], finals: &[FinalCell], store: &Store) -> Result<Vec<Cell>> {
    let mut chosen: Vec<Cell> = Vec::with_capacity(finals.len());
    for (index, row) in finals.iter().enumerate() {
        let cell = match index.checked_sub(1).map(|before| &finals[before]) {
            _ if row.candidates.is_empty() => row.cell.clone(),
            Some(before) if before.candidates == row.candidates => row.following(&chosen[index - 1]),
            _ => row.choose(tune, store)?,
        };
        chosen.push(cell);
    }
    Ok(chosen)
}
