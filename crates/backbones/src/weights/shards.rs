//! Safetensors files read tensor by tensor: a single file, or shards with an index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use san_core::io;
use san_core::io::safetensors::read_header;
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::Error;
use crate::weights::config::MAX_BYTES;
use crate::weights::{Collected, HashingReader};

/// Name of the index file.
pub const INDEX: &str = "model.safetensors.index.json";

/// The index file.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn malformed(path: &Path, reason: String) -> Error {
    san_core::Error::Malformed { path: path.into(), reason }.into()
}

/// Reads the shards of an index; the checksum is that of their checksums in file name order.
pub(super) fn read_all(index_path: &Path, collected: &mut Collected) -> Result<String, Error> {
    let mut hasher = blake3::Hasher::new();
    for file in files(index_path, &index(index_path)?)? {
        hasher.update(read(&file, collected)?.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// The shard that holds each tensor, from an index.
fn index(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let malformed = |reason| malformed(path, reason);
    let text = io::files::read(path, MAX_BYTES)?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    let outside_folder =
        |file: &&String| Path::new(file).file_name().is_none_or(|name| name != file.as_str());
    if let Some(file) = index.weight_map.values().find(outside_folder) {
        return Err(malformed(format!("`{file}` is not a plain file name")));
    }
    Ok(index.weight_map)
}

/// The shards of an index, in file name order. A missing shard is reported before any is read.
fn files(index_path: &Path, index: &BTreeMap<String, String>) -> Result<BTreeSet<PathBuf>, Error> {
    let mut files = BTreeSet::new();
    for (tensor, file) in index {
        let shard = index_path.with_file_name(file);
        if files.contains(&shard) {
            continue;
        }
        if !shard.exists() {
            return Err(Error::MissingShard { shard, index: index_path.into(), tensor: tensor.clone() });
        }
        files.insert(shard);
    }
    Ok(files)
}

/// Validates a downloaded file without reading tensors: a safetensors header must agree with the file size, and
/// the shards of an index must exist and have the tensors that it lists.
///
/// # Errors
/// If the check fails, or a file cannot be read.
pub fn inspect(path: &Path) -> Result<(), Error> {
    let malformed = |reason| malformed(path, reason);
    if path.file_name().is_none_or(|name| name != INDEX) {
        let (_, header) = header(path)?;
        return if header.tensors().is_empty() { Err(malformed("it has no tensors".into())) } else { Ok(()) };
    }
    let index = index(path)?;
    for shard in files(path, &index)? {
        let (_, header) = header(&shard)?;
        let listed = |file: &str| shard.file_name().is_some_and(|name| name == file);
        let missing = index.iter().find(|(tensor, file)| listed(file) && header.info(tensor).is_none());
        if let Some((tensor, file)) = missing {
            return Err(malformed(format!(
                "it lists the tensor `{tensor}`, which `{file}` does not contain"
            )));
        }
    }
    if index.is_empty() { Err(malformed("it lists no tensors".into())) } else { Ok(()) }
}

/// Opens a safetensors file and reads its header, which must agree with the file size.
fn header(path: &Path) -> Result<(HashingReader, Metadata), Error> {
    let mut reader = HashingReader::open(path)?;
    let length = reader.length();
    let header = read_header(&mut reader, length, path)?;
    Ok((reader, header))
}

/// Reads one file; returns its checksum.
pub(super) fn read(path: &Path, collected: &mut Collected) -> Result<String, Error> {
    let malformed = |reason| malformed(path, reason);
    let (mut reader, header) = header(path)?;
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let kind = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => {
                return Err(malformed(format!(
                    "tensor `{name}` has dtype {other:?}, which is not supported"
                )));
            }
        };
        let bytes = reader.take((info.data_offsets.1 - info.data_offsets.0) as u64)?;
        #[allow(clippy::cast_possible_wrap)]
        let shape: Vec<i64> = info.shape.iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_from_data_size(&bytes, &shape, kind)?;
        drop(bytes);
        if collected.add(name.clone(), &tensor)? {
            return Err(malformed(format!("tensor `{name}` is also in another file")));
        }
    }
    Ok(reader.finish()?)
}
