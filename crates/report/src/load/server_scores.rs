//! Scores that a benchmark's server returned for a run, entered afterwards: run folders never change, so they are kept in
//! one file of the store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::ReportError;
use crate::files::write_atomically;
use crate::load::Stored;
use crate::record::Record;

/// File of the entered scores in a store (`<results>/runs/<experiment>/<profile>`).
pub const SERVER_SCORES_FILE: &str = "server_scores.json";

/// Name of the metric of an entered score.
pub const SERVER_METRIC: &str = "server score";

/// What a server returned for one set of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerScore {
    /// Name of the run's folder.
    pub run: String,
    /// The set.
    pub set: String,
    /// Score in [0, 1].
    pub score: f64,
    /// Which server, phase and submission.
    pub source: String,
}

/// The scores entered for the runs of a store; empty if there is no file.
///
/// # Errors
/// When the file cannot be read or is malformed.
pub fn server_scores(store: &Path) -> Result<Vec<ServerScore>, ReportError> {
    let path = store.join(SERVER_SCORES_FILE);
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let fault = |reason: String| ReportError::ServerScore { path: path.clone(), reason };
    let text = std::fs::read(&path).map_err(|error| fault(error.to_string()))?;
    let scores: Vec<ServerScore> = serde_json::from_slice(&text).map_err(|error| fault(error.to_string()))?;
    match scores.iter().find(|score| !(0.0..=1.0).contains(&score.score)) {
        Some(wrong) => Err(fault(format!("the score {} of {} is not in [0, 1]", wrong.score, wrong.set))),
        None => Ok(scores),
    }
}

/// Adds a score to the store of a run, in place of an earlier one of the same run and set. Returns the file.
///
/// # Errors
/// When the run has no such pending set, the score is not in [0, 1], or the file cannot be read or written.
pub fn enter_server_score(record: &Record, store: &Path, score: ServerScore) -> Result<PathBuf, ReportError> {
    let path = store.join(SERVER_SCORES_FILE);
    let pending: Vec<&str> = record.metrics.pending.iter().map(|one| one.dataset.as_str()).collect();
    if !pending.contains(&score.set.as_str()) {
        let has = if pending.is_empty() { "none".to_owned() } else { pending.join(", ") };
        let reason = format!("the run {} has no pending set `{}`; pending: {has}", record.run, score.set);
        return Err(ReportError::ServerScore { path, reason });
    }
    let mut scores = server_scores(store)?;
    scores.retain(|other| other.run != score.run || other.set != score.set);
    scores.push(score);
    scores.sort_by(|a, b| (&a.run, &a.set).cmp(&(&b.run, &b.set)));
    let text = serde_json::to_vec_pretty(&scores)
        .map_err(|error| ReportError::ServerScore { path: path.clone(), reason: error.to_string() })?;
    write_atomically(&path, |scratch| std::fs::write(scratch, text))?;
    server_scores(store)?;
    Ok(path)
}

/// The rows of the sets that are pending in a record and whose scores were entered.
pub(super) fn entered(path: &Path, record: &Record, scores: &[ServerScore]) -> Vec<Stored> {
    let row = |pending: &crate::record::Pending| {
        let score = scores.iter().find(|score| score.run == record.run && score.set == pending.dataset)?;
        let mut part = record.clone();
        part.dataset = pending.details.clone()?;
        part.metrics.accuracy = Some(score.score);
        part.metrics.metric = format!("{SERVER_METRIC}: {}", score.source);
        part.metrics.no_answer = None;
        part.metrics.test_selected = None;
        part.metrics.evaluations = Vec::new();
        part.metrics.pending = Vec::new();
        Some(Stored { path: path.into(), record: part, is_part: true })
    };
    record.metrics.pending.iter().filter_map(row).collect()
}
