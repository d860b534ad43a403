//! Makes the record of a run: its configuration, its results, and the environment that produced them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use report::record::{self, Record};
use san_core::methods;
use tch::Device;

use crate::tasks::{Memory, Outcome, Run};
use crate::workers::device;

/// Commit of the code that this program was built from, or `unknown`.
pub const COMMIT: &str = env!("SAN_COMMIT");
/// Version of libtorch that it was built with.
pub const LIBTORCH: &str = env!("LIBTORCH_VERSION");
/// For `san --version`: the program's version, commit and libtorch.
pub const VERSION: &str = env!("SAN_VERSION");

/// Whether the code had uncommitted changes when the program was built.
pub fn is_modified() -> bool {
    env!("SAN_MODIFIED") == "true"
}

/// Makes the records of one process.
#[derive(Debug)]
pub struct Recorder {
    device: Device,
    device_name: String,
    device_uuid: Option<String>,
    threads: u32,
}

impl Recorder {
    /// Inspects the machine once.
    pub fn new(device: Device, threads: u32) -> Self {
        let (device_name, device_uuid) = device::describe(device);
        Self { device, device_name, device_uuid, threads }
    }

    /// The record of a run that ended, without the checksums of its files.
    ///
    /// # Errors
    /// When the method or an option is unknown.
    pub fn record(&self, run: &Run, name: &str, outcome: Outcome) -> Result<Record> {
        let mut protocol = run.protocol.recorded().map_err(anyhow::Error::msg)?;
        protocol["learning_rate"] = run.learning_rate.into();
        protocol["chosen_from"] = run.chosen_from.clone().into();
        protocol["tuning_budget"] = run.budget().into();
        if !run.searched.is_empty() {
            protocol["searched"] = serde_json::to_value(&run.searched)?;
        }
        let method = run.method()?;
        Ok(Record {
            schema: record::SCHEMA,
            run: name.to_owned(),
            experiment: run.experiment.clone(),
            suite: run.suite.clone(),
            profile: run.profile.clone(),
            stage: run.stage,
            state: outcome.state,
            dataset: outcome.dataset,
            backbone: record::Backbone { name: run.backbone_label(), checksum: run.weights_checksum.clone() },
            method: record::Method {
                name: run.method.clone(),
                label: run.row_label()?,
                config: method.options()?.into(),
                position: u32::try_from(methods::table_position(&run.method)).ok(),
                published_as: method.published_as().iter().map(ToString::to_string).collect(),
            },
            seed: run.seed,
            protocol,
            parameters: outcome.parameters,
            metrics: outcome.metrics,
            cost: record::Cost {
                train_seconds: outcome.training.as_secs_f64(),
                evaluate_seconds: outcome.evaluation.as_secs_f64(),
                data_seconds: outcome.data_wait.as_secs_f64(),
                peak_memory: device::peak_memory(self.device),
                host_memory: device::peak_host_memory().filter(|_| self.device != Device::Cpu),
                group_size: outcome.group_size,
                micro_batch_size: outcome.memory.and_then(|memory| micro_batch_size(run, memory)),
                gradient_checkpointing: outcome.memory.is_some_and(|memory| memory.gradient_checkpointing),
                adapter_bytes: outcome.adapter_bytes,
            },
            provenance: self.provenance(),
            files: BTreeMap::new(),
            checksum: None,
        })
    }

    fn provenance(&self) -> record::Provenance {
        record::Provenance {
            commit: COMMIT.into(),
            dirty: is_modified(),
            version: env!("CARGO_PKG_VERSION").into(),
            libtorch: LIBTORCH.into(),
            device: self.device_name.clone(),
            device_uuid: self.device_uuid.clone(),
            threads: self.threads,
            finished_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        }
    }
}

/// Examples in a micro-batch, if a batch is split.
fn micro_batch_size(run: &Run, memory: Memory) -> Option<u32> {
    let size = memory.micro_batch_size?.get();
    u32::try_from(size).ok().filter(|_| size < run.protocol.batch_size)
}
