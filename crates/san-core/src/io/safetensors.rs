//! Safetensors files: strict reading and atomic writing.
//!
//! Pickles are rejected. Values are converted to f32; the file may hold f32, f16 or bf16.

use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use crate::Error;
use crate::io::files::{open, read, write_atomically};

/// Maximum size of a file that is read into memory: image models and adapters, the largest 5 GB. Language
/// models are read tensor by tensor.
const MAX_BYTES: u64 = 1 << 34;
/// The library's limit on the length of a header, bytes.
const MAX_HEADER_LENGTH: u64 = 100_000_000;
/// Size of the number in front of the header, bytes.
const LENGTH_SIZE: u64 = 8;

/// A safetensors file in memory: tensors in f32, metadata and blake3 checksum.
#[derive(Debug)]
pub struct TensorFile {
    /// The tensors.
    pub tensors: BTreeMap<String, Tensor>,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// blake3 of the whole file, hex.
    pub checksum: String,
}

impl TensorFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is a pickle, is truncated, or holds a dtype other than f32, f16, bf16.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::read_some(path, &|_| true)
    }

    /// Reads the tensors whose names are `wanted`; the others may have any dtype.
    ///
    /// # Errors
    /// Same as [`TensorFile::read`].
    pub fn read_some(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Self, Error> {
        let error = |source| Error::File { action: "read", path: path.into(), source };
        let mut file = open(path, MAX_BYTES)?;
        let length = file.metadata().map_err(error)?.len();
        // A file of another kind, or a sparse file of 16 GiB, is rejected by its first bytes.
        read_header(&mut file, length, path)?;
        Self::parse_some(&read(path, MAX_BYTES)?, path, wanted)
    }

    /// Parses a file's contents; errors mention `path`.
    ///
    /// # Errors
    /// Same as [`TensorFile::read`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        Self::parse_some(bytes, path, &|_| true)
    }

    fn parse_some(bytes: &[u8], path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Self, Error> {
        let malformed = |reason: String| Error::Malformed { path: path.into(), reason };
        let header = read_header(&mut &bytes[..], bytes.len() as u64, path)?;
        let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let file = SafeTensors::deserialize(bytes).map_err(|error| malformed(error.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter().filter(|(name, _)| wanted(name)) {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F16 => Kind::Half,
                Dtype::BF16 => Kind::BFloat16,
                other => {
                    return Err(malformed(format!(
                        "tensor `{name}` has dtype {other:?}, which is not supported"
                    )));
                }
            };
            #[allow(clippy::cast_possible_wrap)]
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)?.f_to_kind(Kind::Float)?;
            tensors.insert(name.to_owned(), tensor);
        }
        Ok(Self { tensors, metadata, checksum: blake3::hash(bytes).to_hex().to_string() })
    }
}

/// Reads the header of a safetensors file of `length` bytes, which must be the size of the header and its tensors.
///
/// # Errors
/// If it cannot be read, or is a pickle, malformed, or truncated; messages mention `path`.
pub fn read_header(file: &mut dyn Read, length: u64, path: &Path) -> Result<Metadata, Error> {
    let malformed = |reason: String| Error::Malformed { path: path.into(), reason };
    let start = take(file, length.min(LENGTH_SIZE + 1), path)?;
    if is_pickle(&start) {
        return Err(Error::Pickle { path: path.into() });
    }
    let Some((claimed, first)) = start.split_first_chunk() else {
        return Err(malformed("its header is truncated".into()));
    };
    let claimed = u64::from_le_bytes(*claimed);
    if claimed == 0 || claimed > MAX_HEADER_LENGTH.min(length - LENGTH_SIZE) {
        return Err(malformed(format!("its header claims to have {claimed} bytes")));
    }
    let rest = take(file, claimed - first.len() as u64, path)?;
    let header: Metadata =
        serde_json::from_slice(&[first, &rest].concat()).map_err(|error| malformed(error.to_string()))?;
    // The library has checked that tensors are contiguous and sized according to their dtype.
    let needed = LENGTH_SIZE + claimed + header.data_len() as u64;
    if needed != length {
        return Err(malformed(format!("it should have {needed} bytes but has {length}")));
    }
    Ok(header)
}

/// Whether a file starts as `torch.save` writes one: a zip archive since PyTorch 1.6, before that a bare pickle of
/// protocol 2 or later. The length of some headers, 640 bytes for example, has the same first bytes; such a file is a
/// safetensors file if the whole number is a possible length and the header after it starts with a brace.
fn is_pickle(start: &[u8]) -> bool {
    let is_header = |(length, rest): (&[u8; 8], &[u8])| {
        u64::from_le_bytes(*length) <= MAX_HEADER_LENGTH && rest.first() == Some(&b'{')
    };
    (start.starts_with(b"PK\x03\x04") || matches!(start, [0x80, 2..=5, ..]))
        && !start.split_first_chunk().is_some_and(is_header)
}

/// The next `count` bytes.
fn take(file: &mut dyn Read, count: u64, path: &Path) -> Result<Vec<u8>, Error> {
    let error = |source| Error::File { action: "read", path: path.into(), source };
    let mut bytes = Vec::new();
    file.take(count).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 == count { Ok(bytes) } else { Err(error(ErrorKind::UnexpectedEof.into())) }
}

/// Writes tensors as a safetensors file atomically and returns its size in bytes.
///
/// `kind` is the dtype in the file: f32, or f16 for half the size. `metadata` is a single key and value: the
/// header's map is unordered, and equal contents should give equal bytes.
///
/// # Errors
/// If the folder cannot be written or the disk is full; no partial file is left.
pub fn write_tensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: (&str, String),
    kind: Kind,
) -> Result<u64, Error> {
    let dtype = if kind == Kind::Half { Dtype::F16 } else { Dtype::F32 };
    let mut buffers = Vec::new();
    for (name, tensor) in tensors {
        #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)]
        let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
        buffers.push((name, shape, to_bytes(tensor, kind)?));
    }
    let malformed = |reason: String| Error::Malformed { path: path.into(), reason };
    let views = buffers
        .iter()
        .map(|(name, shape, data)| Ok((*name, TensorView::new(dtype, shape.clone(), data)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| malformed(error.to_string()))?;
    let metadata = HashMap::from([(metadata.0.to_owned(), metadata.1)]);
    let bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|error| malformed(error.to_string()))?;
    write_atomically(path, &bytes).map_err(|source| Error::File {
        action: "write",
        path: path.into(),
        source,
    })?;
    Ok(bytes.len() as u64)
}

/// The elements in row-major order as little-endian bytes of `kind` (f32 or f16).
fn to_bytes(tensor: &Tensor, kind: Kind) -> Result<Vec<u8>, Error> {
    let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_flatten(0, -1)?;
    let values: Vec<f32> = Vec::try_from(&flat)?;
    Ok(if kind == Kind::Half {
        values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect()
    } else {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_header_length_makes_a_safetensors_file_look_like_a_pickle() {
        // 0x4034b50 has the first bytes of a zip archive.
        for length in (8..=70_000_u64).chain([0x0403_4b50, MAX_HEADER_LENGTH]) {
            let start = [&length.to_le_bytes()[..], b"{"].concat();
            assert!(!is_pickle(&start), "{length}");
        }
    }

    #[test]
    fn files_of_torch_save_are_recognised_by_their_first_bytes() {
        // Torch 2.11: `torch.save`, `torch.save(_use_new_zipfile_serialization=False)`, and bare pickles.
        for start in [
            &b"PK\x03\x04\x00\x00\x08\x08\x00"[..],
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9",
            b"\x80\x02}q\x00X\x01\x00\x00",
            b"\x80\x04\x95{\x00\x00\x00\x00\x00",
            b"\x80\x02X\x01\x00\x00\x00{q",
            b"\x80\x02}",
            b"PK\x03\x04",
        ] {
            assert!(is_pickle(start), "{start:?}");
        }
    }
}
