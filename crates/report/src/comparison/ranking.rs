//! Average ranks of the methods over data sets, and the critical difference between two of them.

use serde::Serialize;

use crate::comparison::estimate::SIGNIFICANCE;
use crate::comparison::row::Row;
use crate::statistics::{Friedman, average_ranks, friedman, nemenyi_critical_difference};

/// Ranks over data sets of the methods with all runs finished.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranking {
    /// Labels of the ranked methods, in the table's order.
    pub methods: Vec<String>,
    /// Average rank of each, 1 for a method that is best on every set.
    pub average_ranks: Vec<f64>,
    /// Number of data sets.
    pub sets: usize,
    /// Test of the hypothesis that all methods rank equally; `None` for two methods or on one set.
    pub friedman: Option<Friedman>,
    /// Nemenyi's critical difference at 0.05.
    pub critical_difference: Option<f64>,
}

impl Ranking {
    /// By the mean over seeds on each set; `None` for fewer than two complete methods.
    pub(super) fn of(rows: &[Row]) -> Option<Self> {
        let ranked: Vec<&Row> = rows.iter().filter(|row| row.mean_of_sets.is_complete()).collect();
        let sets = ranked.first()?.cells.len();
        let block = |set: usize| -> Option<Vec<f64>> {
            ranked.iter().map(|row| row.cells[set].spread.map(|spread| spread.mean)).collect()
        };
        let blocks: Vec<Vec<f64>> = (0..sets).map(block).collect::<Option<_>>()?;
        (ranked.len() > 1).then_some(())?;
        Some(Self {
            methods: ranked.iter().map(|row| row.label.clone()).collect(),
            average_ranks: average_ranks(&blocks)?,
            sets,
            friedman: friedman(&blocks),
            critical_difference: nemenyi_critical_difference(ranked.len(), sets, SIGNIFICANCE),
        })
    }

    /// The average rank of a method, if it is ranked.
    pub fn rank(&self, label: &str) -> Option<f64> {
        self.methods.iter().position(|method| method == label).map(|place| self.average_ranks[place])
    }
}
