//! The logs of a training run: one JSON value per line.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::ReportError;

/// One epoch. Accuracies are in [0, 1]; other fields are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Epoch {
    pub(crate) epoch: u64,
    pub(crate) train_loss: f64,
    #[serde(default)]
    pub(crate) test_accuracy: Option<f64>,
    #[serde(default, alias = "readings")]
    pub(crate) part_accuracies: Option<PartAccuracies>,
}

/// The same model evaluated with part of what it learned: `nt` only the scales after projections, `sp` only the
/// propagated ones, `head` neither.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct PartAccuracies {
    pub(crate) nt: f64,
    pub(crate) sp: f64,
    pub(crate) head: f64,
}

/// The lines of a log next to a record, each a JSON value.
///
/// # Errors
/// When it cannot be read, or when a line is malformed, with its number.
pub(crate) fn json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, ReportError> {
    let fault = |reason: String| ReportError::Drawing { path: path.into(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    lines
        .map(|(line, number)| {
            serde_json::from_str(line).map_err(|error| fault(format!("line {number}: {error}")))
        })
        .collect()
}
