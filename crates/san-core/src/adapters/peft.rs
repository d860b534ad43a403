//! Adapters in the format of Hugging Face's peft: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! A method that peft supports defines in [`Method::to_peft`] and in its registry entry which tensors its sites
//! have there and how they are imported; this file handles the files themselves. An adapter on parts of a fused
//! projection becomes an equivalent adapter on the whole projection. Checked against peft 0.18.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use tch::{Kind, Tensor};

use crate::io::files::write_atomically;
use crate::io::safetensors::{TensorFile, write_tensors};
use crate::methods::peft::{Imported, PeftFiles, ROOT};
use crate::methods::{Method, REGISTRY, reject_modules_to_save};
use crate::spec::model::HeadSpec;
use crate::{Error, ModelSpec, Trainables, Weights};

const CONFIG_FILE: &str = "adapter_config.json";
const TENSOR_FILE: &str = "adapter_model.safetensors";

/// Writes `run` of the stack into `folder`, including the head.
///
/// # Errors
/// If peft has no such method, or the folder cannot be written.
pub fn export(
    folder: &Path,
    method: &dyn Method,
    modules_to_save: &[String],
    model_spec: &ModelSpec,
    weights: &Weights,
    trainables: &Trainables,
    run: i64,
) -> Result<(), Error> {
    reject_modules_to_save(method, modules_to_save)?;
    let form = method.to_peft(model_spec, weights, trainables, run)?;
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for name in model_spec.head.iter().flat_map(HeadSpec::tensors) {
        tensors.insert(format!("{ROOT}{name}"), trainables.get(&name)?.f_get(run)?);
    }
    tensors.extend(form.modules.into_iter().map(|(name, tensor)| (format!("{ROOT}{name}"), tensor)));
    tensors.extend(form.shared.into_iter().map(|(name, tensor)| (format!("base_model.{name}"), tensor)));
    let mut config = json!({
        "task_type": null,
        "base_model_name_or_path": null,
        "inference_mode": true,
        "modules_to_save": model_spec.head.iter().map(|head| &head.name).collect::<Vec<_>>(),
    });
    form.config.into_iter().for_each(|(name, value)| config[name] = value);
    let path = folder.join(CONFIG_FILE);
    let text = serde_json::to_string_pretty(&config).map_err(|error| Error::File {
        action: "write",
        path: path.clone(),
        source: error.into(),
    })?;
    std::fs::create_dir_all(folder)
        .and_then(|()| write_atomically(&path, text.as_bytes()))
        .map_err(|source| Error::File { action: "write", path, source })?;
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_tensors(&folder.join(TENSOR_FILE), named, ("format", "pt".into()), Kind::Float).map(drop)
}

/// blake3 (hex) of the tensors' file in a folder saved by peft.
///
/// # Errors
/// If it is missing or malformed.
pub fn checksum(folder: &Path) -> Result<String, Error> {
    Ok(TensorFile::read(&folder.join(TENSOR_FILE))?.checksum)
}

/// Reads peft's files from `folder`.
///
/// # Errors
/// If a file is missing or malformed, the method is not supported, or no selection of roles matches its
/// modules.
pub fn import(folder: &Path, model_spec: &ModelSpec) -> Result<Imported, Error> {
    let path = folder.join(CONFIG_FILE);
    let read = std::fs::read(&path);
    let text = read.map_err(|source| Error::File { action: "read", path: path.clone(), source })?;
    let malformed = |reason: String| Error::Malformed { path: path.clone(), reason };
    let tensors = TensorFile::read(&folder.join(TENSOR_FILE))?.tensors;
    let mut files = PeftFiles::new(&text, tensors).map_err(|error| malformed(error.to_string()))?;
    let head = model_spec.head.iter().flat_map(HeadSpec::tensors);
    let head: Vec<_> =
        head.filter_map(|name| Some((files.tensors.remove(&format!("{ROOT}{name}"))?, name))).collect();
    let kind = files.kind().to_owned();
    let mut imported = None;
    for info in REGISTRY {
        let Some(from_peft) = info.from_peft else { continue };
        imported = from_peft(&mut files, model_spec).map_err(malformed)?;
        if imported.is_some() {
            break;
        }
    }
    let unknown = || malformed(format!("`peft_type` is `{kind}`, which is not supported"));
    let mut imported = imported.ok_or_else(unknown)?;
    if let Some(name) = files.tensors.keys().next() {
        let place = folder.join(TENSOR_FILE).display().to_string();
        return Err(Error::UnexpectedTensor { name: name.clone(), place });
    }
    imported.tensors.extend(head.into_iter().map(|(tensor, name)| (name, tensor)));
    Ok(imported)
}
