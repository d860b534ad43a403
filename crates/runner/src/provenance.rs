//! The record of a cell: what it was, what came out, and where and with what it was made.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use report::record::{self, Record};
use tch::Device;

use crate::cell::Cell;
use crate::device;
use crate::execute::Outcome;

/// Writes records of one process.
#[derive(Debug)]
pub struct Recorder {
    commit: String,
    dirty: bool,
    device: Device,
    device_name: String,
    threads: u32,
}

impl Recorder {
    /// Looks once at the code and the machine.
    pub fn new(device: Device, threads: u32) -> Self {
        let git = |arguments: &[&str]| {
            let output = Command::new("git").args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Self {
            commit: git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".into()),
            dirty: git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty()),
            device,
            device_name: device::describe(device),
            threads,
        }
    }

    /// The record of a cell that ended.
    ///
    /// # Errors
    /// When the method or an option is unknown.
    pub fn record(&self, cell: &Cell, name: &str, outcome: Outcome) -> Result<Record> {
        let mut protocol = serde_json::to_value(&cell.protocol)?;
        protocol["learning_rate"] = cell.learning_rate.into();
        protocol["chosen_from"] = cell.chosen_from.clone().into();
        protocol["tuning_budget"] = cell.budget().into();
        if !cell.searched.is_empty() {
            protocol["searched"] = serde_json::to_value(&cell.searched)?;
        }
        let method = cell.method()?;
        Ok(Record {
            schema: record::SCHEMA,
            cell: name.to_owned(),
            experiment: cell.experiment.clone(),
            suite: cell.suite.clone(),
            profile: cell.profile.clone(),
            stage: cell.stage,
            state: outcome.state,
            dataset: outcome.dataset,
            backbone: record::Backbone {
                name: cell.backbone.clone(),
                checksum: cell.weights_checksum.clone(),
            },
            method: record::Method {
                name: cell.method.clone(),
                label: cell.row_label()?,
                config: method.options(),
            },
            seed: cell.seed,
            protocol,
            parameters: outcome.parameters,
            metrics: outcome.metrics,
            cost: record::Cost {
                train_seconds: outcome.training.as_secs_f64(),
                evaluate_seconds: outcome.evaluation.as_secs_f64(),
                data_seconds: outcome.reading.as_secs_f64(),
                peak_memory: device::peak_memory(self.device),
                adapter_bytes: outcome.adapter_bytes,
            },
            provenance: self.provenance(),
        })
    }

    fn provenance(&self) -> record::Provenance {
        record::Provenance {
            commit: self.commit.clone(),
            dirty: self.dirty,
            version: env!("CARGO_PKG_VERSION").into(),
            libtorch: env!("LIBTORCH_VERSION").into(),
            device: self.device_name.clone(),
            threads: self.threads,
            finished_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        }
    }
}
