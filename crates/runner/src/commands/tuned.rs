//! A cell that is done, opened again: backbone, method and trained tensors.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use runner::cell::Cell;
use runner::context::{Context, LoadedBackbone, LoadedLanguageModel};
use runner::error::RunError;
use runner::experiment::Input;
use san_core::methods::{self, Method};
use san_core::{Attachment, Layout, Trainables, Weights, adapter_file};
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
        let path = folder.join("cell.json");
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
        let method = cell.method()?;
        let adapter = folder.join(report::record::ADAPTER_FILE);
        let classes = adapter_file::read_header(&adapter)?.classes;
        let (trainables, attachment) =
            methods::prepare(&*method, &layout, &weights, classes, &[cell.seed], Device::Cpu)?;
        adapter_file::read_into(&adapter, &checksum, &trainables)?;
        Ok(Self { cell, layout, weights, config, language, method, trainables, attachment, classes })
    }
}
