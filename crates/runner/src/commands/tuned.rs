//! A cell that is done, opened again: backbone, method and trained tensors.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use report::record::{ADAPTER_FILE, CONFIGURATION_FILE, RECORD_FILE, Record};
use runner::config::experiment::Input;
use runner::error::RunError;
use runner::plan::cell::Cell;
use runner::resources::context::{Context, LoadedBackbone, LoadedLanguageModel};
use runner::train::trainer::is_finite;
use san_core::Attachment;
use san_core::Layout;
use san_core::Trainables;
use san_core::Weights;
use san_core::adapters::file as adapter_file;
use san_core::methods::{self, Method};
use tch::Device;

/// What a cell trained.
pub(super) struct Tuned {
    pub(super) cell: Cell,
    pub(super) layout: Layout,
    pub(super) weights: Weights,
    /// The backbone's configuration in its publisher's terms.
    pub(super) config: serde_json::Value,
    /// The backbone, where it is a language model, or sees and reads.
    pub(super) language: Option<Rc<LoadedLanguageModel>>,
    pub(super) method: Box<dyn Method>,
    pub(super) trainables: Trainables,
    pub(super) attachment: Attachment,
    pub(super) classes: i64,
}

impl Tuned {
    /// Opens the cell in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let record_file = folder.join(RECORD_FILE);
        if !record_file.is_file() {
            let (what, reason) = (format!("the run {}", folder.display()), "it has no record.json".into());
            return Err(RunError::Missing { what, reason }.into());
        }
        let record = Record::read(&record_file)?;
        record.check_folder(&record_file)?;
        // Read whole before it is parsed: what has changed since the run ended is not merged.
        record.read_file(&record_file, ADAPTER_FILE)?;
        let path = folder.join(CONFIGURATION_FILE);
        let text = std::fs::read(&path).map_err(|error| RunError::Missing {
            what: format!("the cell {}", folder.display()),
            reason: format!("{}: {error}", path.display()),
        })?;
        let cell: Cell =
            serde_json::from_slice(&text).with_context(|| format!("{} describes no cell", path.display()))?;
        let mut context = Context::new(Device::Cpu);
        let mut language = None;
        let (layout, weights, config, checksum) = match &cell.protocol.input {
            Input::Image(image) => {
                let LoadedBackbone { architecture, layout, weights, checksum } =
                    &*context.backbone(&cell.backbone, image.image_size)?;
                (layout.clone(), weights.shallow_clone(), architecture.published_config(), checksum.clone())
            }
            Input::Text(_) | Input::Questions(_) => {
                let loaded = language.insert(context.language(&cell.backbone, &cell.protocol.input)?);
                let LoadedLanguageModel { architecture, layout, weights, checksum, .. } = &**loaded;
                (layout.clone(), weights.shallow_clone(), architecture.published_config(), checksum.clone())
            }
        };
        let (method, modules) = (cell.method()?, cell.modules_to_save());
        let adapter = folder.join(ADAPTER_FILE);
        let classes = adapter_file::read_header(&adapter)?.classes;
        let (trainables, attachment) =
            methods::prepare(&*method, &modules, &layout, &weights, classes, &[cell.seed], Device::Cpu)?;
        adapter_file::read_into(&adapter, &checksum, &trainables)?;
        if !is_finite(trainables.values())? {
            let reason = "it holds numbers that are not finite".into();
            return Err(san_core::Error::Malformed { path: adapter, reason }.into());
        }
        Ok(Self { cell, layout, weights, config, language, method, trainables, attachment, classes })
    }
}
