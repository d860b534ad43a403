//! Training curves for experiment trackers, made from the logs next to the records: entries for Trackio's interface, and
//! files named and laid out as Weights & Biases keeps them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::comparison::Comparison;
use crate::error::ReportError;
use crate::export::tensorboard::{collect, run_name};
use crate::files::write_atomically;
use crate::load::Stored;
use crate::load::logs::json_lines;
use crate::record::{EPOCHS_FILE, Record, STEPS_FILE};

/// The curves of one training.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackedRun {
    /// Suite and profile.
    pub project: String,
    /// Backbone, set, method and seed.
    pub name: String,
    /// Name of the run's folder.
    pub id: String,
    /// Method, protocol and provenance.
    pub config: Value,
    /// Final numbers.
    pub summary: Value,
    /// When the run ended, seconds since 1970: the logs have no times.
    pub finished_at: u64,
    /// Step, from 1, and the numbers logged there (`step/loss`, `epoch/train_loss`, ...).
    pub history: Vec<(u64, Map<String, Value>)>,
}

impl TrackedRun {
    /// The entries of Trackio's `bulk_log`: one per step, each with an identifier, so that sending them again adds nothing.
    pub fn trackio_entries(&self) -> Vec<Value> {
        let entry = |(step, metrics): &(u64, Map<String, Value>)| {
            json!({
                "project": self.project,
                "run": self.name,
                "run_id": self.id,
                "metrics": metrics,
                "step": step,
                "config": self.config,
                "log_id": format!("{}-{step}", self.id),
            })
        };
        self.history.iter().map(entry).collect()
    }
}

/// The trainings of a comparison that have logs.
///
/// # Errors
/// When a log is malformed.
pub fn tracked_runs(comparison: &Comparison) -> Result<Vec<TrackedRun>, ReportError> {
    // A language model that is evaluated on several data sets was trained once and has a row for each.
    let runs: BTreeMap<&Path, &Stored> =
        comparison.records().iter().map(|stored| (stored.path.as_path(), stored)).collect();
    runs.into_values().filter_map(|stored| tracked(stored).transpose()).collect()
}

/// Writes `wandb-history.jsonl`, `wandb-summary.json` and `config.json` of each training under `folder` (created if
/// needed), and returns their paths.
///
/// # Errors
/// When a log is malformed or the folder cannot be written.
pub fn write_history_files(comparison: &Comparison, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let mut written = Vec::new();
    for run in tracked_runs(comparison)? {
        let lines = run.history.iter().map(|(step, metrics)| {
            let mut line = metrics.clone();
            line.insert("_step".into(), (*step).into());
            line.insert("_timestamp".into(), run.finished_at.into());
            format!("{}\n", Value::Object(line))
        });
        let config: Map<String, Value> = run
            .config
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), json!({"value": value})))
            .collect();
        let files = [
            ("wandb-history.jsonl", lines.collect::<String>()),
            ("wandb-summary.json", run.summary.to_string()),
            ("config.json", Value::Object(config).to_string()),
        ];
        for (name, text) in files {
            let path = folder.join(&run.name).join(name);
            write_atomically(&path, |scratch| std::fs::write(scratch, text))?;
            written.push(path);
        }
    }
    Ok(written)
}

fn tracked(stored: &Stored) -> Result<Option<TrackedRun>, ReportError> {
    let record = &stored.record;
    let mut history: BTreeMap<u64, Map<String, Value>> = BTreeMap::new();
    for (name, axis) in [(STEPS_FILE, "step"), (EPOCHS_FILE, "epoch")] {
        let path = stored.path.with_file_name(name);
        if !path.exists() {
            continue;
        }
        let lines: Vec<Map<String, Value>> = json_lines(&path)?;
        let count = lines.len() as u64;
        for (line, number) in lines.iter().zip(1..) {
            // The numbers of an epoch belong to its last step.
            let step = if axis == "epoch" { record.metrics.steps * number / count.max(1) } else { number };
            let mut scalars = Vec::new();
            collect(line, axis, axis, &mut scalars);
            let finite = scalars.into_iter().filter(|(_, value)| value.is_finite());
            history.entry(step).or_default().extend(finite.map(|(name, value)| (name, value.into())));
        }
    }
    Ok((!history.is_empty()).then(|| TrackedRun {
        project: format!("{}-{}", record.suite, record.profile),
        name: run_name(stored).to_string_lossy().into_owned(),
        id: record.run.clone(),
        config: config(record),
        summary: json!({"accuracy": record.metrics.accuracy, "train_loss": record.metrics.train_loss,
            "steps": record.metrics.steps, "train_seconds": record.cost.train_seconds}),
        finished_at: record.provenance.finished_at,
        history: history.into_iter().collect(),
    }))
}

fn config(record: &Record) -> Value {
    json!({
        "method": record.method.name,
        "label": record.method.label,
        "options": record.method.config,
        "backbone": record.backbone.name,
        "seed": record.seed,
        "protocol": record.protocol,
        "commit": record.provenance.commit,
    })
}
