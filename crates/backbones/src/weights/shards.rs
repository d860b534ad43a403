//! Safetensors files read tensor by tensor: one file, or several with a list of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use san_core::Error;
use san_core::io::files;
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::weights::{Collected, Pass};

/// Name of the list of files, beside them.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// The library's own limit of a header's length, bytes.
const HEADER: u64 = 100_000_000;

/// The list of files.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads the files that an index names; the checksum is one of their checksums, in the order of their names.
pub(super) fn read_all(index_path: &Path, collected: &mut Collected) -> Result<String, Error> {
    let malformed = |reason: String| Error::Malformed { path: index_path.into(), reason };
    let text = files::read(index_path, crate::weights::config::MOST_BYTES)?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    let mut files: BTreeMap<&str, &str> = BTreeMap::new();
    for (tensor, file) in &index.weight_map {
        if Path::new(file).file_name().is_none_or(|name| name != file.as_str()) {
            return Err(malformed(format!("`{file}` is no file beside it")));
        }
        files.insert(file, tensor);
    }
    let beside = |file: &str| index_path.with_file_name(file);
    // All of them before any is read: a missing one shows at once.
    if let Some((file, tensor)) = files.iter().find(|(file, _)| !beside(file).exists()) {
        let (shard, index) = (beside(file), PathBuf::from(index_path));
        return Err(Error::MissingShard { shard, index, tensor: (*tensor).to_owned() });
    }
    let mut hasher = blake3::Hasher::new();
    for file in files.keys() {
        hasher.update(read(&beside(file), collected)?.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Reads one file; its checksum.
pub(super) fn read(path: &Path, collected: &mut Collected) -> Result<String, Error> {
    let malformed = |reason: String| Error::Malformed { path: path.into(), reason };
    let mut pass = Pass::open(path)?;
    let start = pass.take(pass.length().min(8))?;
    // A zip archive (torch.save since 1.6) or a bare pickle of protocol 2 and later.
    if start.starts_with(b"PK\x03\x04") || matches!(start[..], [0x80, 2..=5, ..]) {
        return Err(Error::Pickle { path: path.into() });
    }
    let length = <[u8; 8]>::try_from(start.as_slice()).map(u64::from_le_bytes);
    let length = length.map_err(|_| malformed("it is cut short in its header".into()))?;
    if length > HEADER.min(pass.length() - 8) {
        return Err(malformed(format!("its header claims {length} bytes")));
    }
    let header: Metadata =
        serde_json::from_slice(&pass.take(length)?).map_err(|error| malformed(error.to_string()))?;
    // The library has checked that tensors lie one behind the other and have their type's size.
    let data = header.data_len() as u64;
    if 8 + length + data != pass.length() {
        let (needed, found) = (8 + length + data, pass.length());
        return Err(malformed(format!("it should have {needed} bytes and has {found}")));
    }
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let kind = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => return Err(malformed(format!("tensor `{name}` has type {other:?}"))),
        };
        let bytes = pass.take((info.data_offsets.1 - info.data_offsets.0) as u64)?;
        #[allow(clippy::cast_possible_wrap)]
        let shape: Vec<i64> = info.shape.iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_from_data_size(&bytes, &shape, kind)?;
        drop(bytes);
        if collected.add(name.clone(), &tensor)? {
            return Err(malformed(format!("tensor `{name}` is in another file too")));
        }
    }
    pass.finish()
}
