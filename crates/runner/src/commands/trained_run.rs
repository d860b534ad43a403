//! A finished run, reopened: base model, method and trained tensors.

use std::path::Path;

use anyhow::{Context as _, Result};
use report::record::{ADAPTER_FILE, CONFIGURATION_FILE, RECORD_FILE, Record};
use runner::error::RunError;
use runner::models::BaseModel;
use runner::resources::Resources;
use runner::tasks::Run;
use san_core::adapters::file as adapter_file;
use san_core::methods::{self, Method};
use san_core::{AdapterSet, Trainables};
use tch::{Device, Kind};

/// A finished run.
pub(super) struct TrainedRun {
    pub(super) run: Run,
    pub(super) base: BaseModel,
    pub(super) method: Box<dyn Method>,
    /// Tensors that were trained in full in addition to the method.
    pub(super) modules_to_save: Vec<String>,
    pub(super) trainables: Trainables,
    pub(super) adapters: AdapterSet,
    pub(super) classes: i64,
}

impl TrainedRun {
    /// Opens the run in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let record_file = folder.join(RECORD_FILE);
        if !record_file.is_file() {
            let (what, reason) = (format!("the run {}", folder.display()), "it has no record.json".into());
            return Err(RunError::Missing { what, reason }.into());
        }
        let record = Record::read(&record_file)?;
        record.check_folder(&record_file)?;
        // Read in full and checked before it is parsed: a file that changed since the run ended is not merged.
        record.read_file(&record_file, ADAPTER_FILE)?;
        let path = folder.join(CONFIGURATION_FILE);
        let text = std::fs::read(&path).map_err(|error| RunError::Missing {
            what: format!("the run {}", folder.display()),
            reason: format!("{}: {error}", path.display()),
        })?;
        let run: Run = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not the configuration of a run", path.display()))?;
        let task = run.protocol.task().map_err(anyhow::Error::msg)?;
        let mut resources = Resources::new(Device::Cpu);
        let base = task.base_model(&run.backbone, Kind::Float, &mut resources.models)?;
        let modules = run.protocol.modules_to_save(&run.method).map_err(anyhow::Error::msg)?;
        let method = run.method()?;
        let adapter = folder.join(ADAPTER_FILE);
        let classes = adapter_file::read_header(&adapter)?.classes;
        let (model_spec, weights) = (base.model_spec(), base.weights());
        let (trainables, adapters) =
            methods::prepare(&*method, &modules, model_spec, weights, classes, &[run.seed], Device::Cpu)?;
        adapter_file::read_into(&adapter, base.checksum(), &trainables)?;
        if !san_core::weights::is_finite(trainables.values())? {
            let reason = "it contains values that are not finite".into();
            return Err(san_core::Error::Malformed { path: adapter, reason }.into());
        }
        Ok(Self { run, base, method, modules_to_save: modules, trainables, adapters, classes })
    }
}
