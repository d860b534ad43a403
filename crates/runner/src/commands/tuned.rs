//! A cell that is done, opened again: backbone, method and trained tensors.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use runner::cell::Cell;
use runner::context::{Context, LoadedBackbone};
use runner::error::RunError;
use runner::experiment::Input;
use san_core::methods::{self, Method};
use san_core::{Attachment, Trainables, adapter_file};
use tch::Device;

/// What a cell trained.
pub(super) struct Tuned {
    pub(super) cell: Cell,
    pub(super) backbone: Rc<LoadedBackbone>,
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
        let Input::Image(image) = &cell.protocol.input;
        let backbone = Context::new(Device::Cpu).backbone(&cell.backbone, image.image_size)?;
        let method = cell.method()?;
        let adapter = folder.join(report::record::ADAPTER_FILE);
        let classes = adapter_file::read_header(&adapter)?.classes;
        let (trainables, attachment) = methods::prepare(
            &*method,
            &backbone.layout,
            &backbone.weights,
            classes,
            &[cell.seed],
            Device::Cpu,
        )?;
        adapter_file::read_into(&adapter, &backbone.checksum, &trainables)?;
        Ok(Self { cell, backbone, method, trainables, attachment, classes })
    }
}
