//! Adapter-only files: what a run trained and what is needed to use it again.
//!
//! A safetensors file of the trained tensors (f32, or bf16 if they are trained in it; with their stack dimension) and
//! the method's constants (f32, without). Under the key `san`, its header holds a JSON object: the method and its
//! options, the backbone and the checksum of the weights it was trained on.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Kind, no_grad};

use crate::io::safetensors::{TensorFile, write_tensors};
use crate::{Error, Trainables};

const KEY: &str = "san";

/// Header of an adapter file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterHeader {
    /// The method's name in the registry.
    pub method: String,
    /// Its options.
    pub options: serde_json::Value,
    /// Name of the backbone.
    pub backbone: String,
    /// blake3 of the frozen weights.
    pub base_checksum: String,
    /// Number of classes of the head.
    pub classes: i64,
}

/// Writes the trained tensors, including the head; returns the file's size in bytes.
///
/// # Errors
/// If the folder cannot be written or the disk is full.
pub fn write(path: &Path, header: &AdapterHeader, trainables: &Trainables) -> Result<u64, Error> {
    let text = serde_json::to_string(header)
        .map_err(|error| Error::Malformed { path: path.into(), reason: error.to_string() })?;
    let tensors = trainables.iter().map(|(spec, tensor)| (spec.name.as_str(), tensor));
    write_tensors(path, tensors.chain(trainables.constants()), (KEY, text), Kind::Float)
}

/// Reads only the header.
///
/// # Errors
/// If the file is not an adapter file.
pub fn read_header(path: &Path) -> Result<AdapterHeader, Error> {
    parse_header(&TensorFile::read(path)?, path)
}

fn parse_header(file: &TensorFile, path: &Path) -> Result<AdapterHeader, Error> {
    let malformed = |reason: String| Error::Malformed { path: path.into(), reason };
    let text = file.metadata.get(KEY).ok_or_else(|| malformed("it has no `san` header".into()))?;
    serde_json::from_str(text).map_err(|error| malformed(format!("its `san` header: {error}")))
}

/// Copies a file's tensors into `trainables`, allocated for the same method; names must match in both
/// directions.
///
/// # Errors
/// If the file's checksum differs from `base_checksum`, or a tensor is missing, unexpected or of the wrong shape.
pub fn read_into(path: &Path, base_checksum: &str, trainables: &Trainables) -> Result<AdapterHeader, Error> {
    let mut file = TensorFile::read(path)?;
    let header = parse_header(&file, path)?;
    if header.base_checksum != base_checksum {
        let reason = format!(
            "it was trained on weights with checksum {}, but these have {base_checksum}",
            header.base_checksum
        );
        return Err(Error::Malformed { path: path.into(), reason });
    }
    let place = || path.display().to_string();
    let trained = trainables.iter().map(|(spec, tensor)| (spec.name.as_str(), tensor));
    for (name, tensor) in trained.chain(trainables.constants()) {
        let Some(stored) = file.tensors.remove(name) else {
            return Err(Error::MissingTensor { name: name.into(), place: place() });
        };
        if stored.size() != tensor.size() {
            let (found, expected) = (stored.size(), tensor.size());
            return Err(Error::WrongShape { name: name.into(), place: place(), found, expected });
        }
        no_grad(|| tensor.shallow_clone().f_copy_(&stored).map(drop))?;
    }
    match file.tensors.into_keys().next() {
        Some(name) => Err(Error::UnexpectedTensor { name, place: place() }),
        None => Ok(header),
    }
}
