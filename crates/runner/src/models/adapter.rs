//! A saved adapter, to start a training from or to evaluate: of peft, or of a finished run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use report::record::ADAPTER_FILE;
use san_core::adapters::file::{self as adapter_file, AdapterHeader};
use san_core::adapters::peft;
use san_core::io::safetensors::TensorFile;
use san_core::methods::{self, Method};
use san_core::spec::model::HeadSpec;
use san_core::{Error, Trainables};
use serde_json::{Map, Value};
use tch::{Tensor, no_grad};

use crate::error::RunError;
use crate::models::BaseModel;

/// An adapter read from its files.
#[derive(Debug)]
pub struct SavedAdapter {
    /// The method's name in the registry.
    pub method: String,
    /// Its options, all of them.
    pub options: Map<String, Value>,
    /// Number of classes of its head; 0 without a head.
    pub classes: i64,
    /// blake3 of its file, hex.
    pub checksum: String,
    /// Trained tensors, with or without a stack dimension of 1, and constants.
    tensors: BTreeMap<String, Tensor>,
    place: String,
}

impl SavedAdapter {
    /// Reads a folder saved by peft, the folder of a finished run, or an adapter file.
    ///
    /// # Errors
    /// When it is neither, its method is not supported, or it was trained on other weights than those of `base`.
    pub fn read(path: &Path, base: &BaseModel) -> Result<Self> {
        if path.is_file() {
            return Self::from_file(path, base);
        }
        let of_run = path.join(ADAPTER_FILE);
        if of_run.is_file() { Self::from_file(&of_run, base) } else { Self::from_peft(path, base) }
    }

    fn from_file(path: &Path, base: &BaseModel) -> Result<Self> {
        let AdapterHeader { method, options, base_checksum, classes, .. } = adapter_file::read_header(path)?;
        if base_checksum != base.checksum() {
            let reason = format!("it was trained on weights with checksum {base_checksum}, not on these");
            return Err(Error::Malformed { path: path.into(), reason }.into());
        }
        let file = TensorFile::read(path)?;
        let place = path.display().to_string();
        let options = options.as_object().cloned().unwrap_or_default();
        Ok(Self { method, options, classes, checksum: file.checksum, tensors: file.tensors, place })
    }

    fn from_peft(folder: &Path, base: &BaseModel) -> Result<Self> {
        let model_spec = base.model_spec();
        let mut read = peft::import(folder, model_spec)?;
        let head = model_spec.head.iter().flat_map(HeadSpec::tensors);
        // Without `modules_to_save`, peft leaves the model's own head in place.
        for name in head.clone() {
            if let (false, Some(own)) = (read.tensors.contains_key(&name), base.head_tensor(&name)) {
                read.tensors.insert(name, own.shallow_clone());
            }
        }
        let bias = head.last().and_then(|bias| read.tensors.get(&bias));
        let classes = bias.and_then(|bias| bias.size().first().copied()).unwrap_or(0);
        let options = methods::find(&read.method, read.options)?.options()?;
        let checksum = peft::checksum(folder)?;
        let place = folder.display().to_string();
        Ok(Self { method: read.method, options, classes, checksum, tensors: read.tensors, place })
    }

    /// The method, with the options that it was trained with.
    ///
    /// # Errors
    /// When they are not valid.
    pub fn method(&self) -> Result<Box<dyn Method>, Error> {
        methods::find(&self.method, self.options.clone())
    }

    /// Checks that there is a head, if the model needs one.
    ///
    /// # Errors
    /// When there is none.
    pub fn check_head(&self, base: &BaseModel) -> Result<(), RunError> {
        let Some(head) = base.model_spec().head.as_ref().filter(|_| self.classes == 0) else { return Ok(()) };
        Err(RunError::Missing {
            what: format!("the head `{}`", head.name),
            reason: format!(
                "{} was saved without `modules_to_save`, and the weights of the model have no head",
                self.place
            ),
        })
    }

    /// Copies its values into every run of `trainables`, which were allocated for the same method. A head is left out if
    /// its number of classes is not `classes`.
    ///
    /// # Errors
    /// If a tensor is missing, unexpected or of another shape.
    pub fn copy_into(&self, base: &BaseModel, classes: i64, trainables: &Trainables) -> Result<(), Error> {
        let head: Vec<String> = match &base.model_spec().head {
            Some(head) if self.classes != classes => head.tensors().to_vec(),
            _ => Vec::new(),
        };
        let is_left_out = |name: &str| head.iter().any(|part| part == name);
        let trained = trainables.iter().map(|(spec, tensor)| (spec.name.as_str(), tensor, true));
        let constants = trainables.constants().map(|(name, tensor)| (name, tensor, false));
        let mut known = Vec::new();
        for (name, target, is_stacked) in trained.chain(constants) {
            known.push(name);
            if is_left_out(name) {
                continue;
            }
            let saved = self
                .tensors
                .get(name)
                .ok_or_else(|| Error::MissingTensor { name: name.into(), place: self.place.clone() })?;
            let one = if is_stacked { &target.size()[1..] } else { &target.size()[..] };
            let saved = if is_stacked && saved.dim() == target.dim() {
                saved.f_squeeze_dim(0)?
            } else {
                saved.shallow_clone()
            };
            if saved.size() != one {
                let (found, expected) = (saved.size(), one.to_vec());
                return Err(Error::WrongShape {
                    name: name.into(),
                    place: self.place.clone(),
                    found,
                    expected,
                });
            }
            no_grad(|| target.detach().f_copy_(&saved).map(drop))?;
        }
        match self.tensors.keys().find(|name| !known.contains(&name.as_str()) && !is_left_out(name)) {
            Some(name) => Err(Error::UnexpectedTensor { name: name.clone(), place: self.place.clone() }),
            None => Ok(()),
        }
    }
}
