//! Safetensors files: strict reading and atomic writing.
//!
//! Pickles are rejected. Values are converted to f32; the file may hold f32, f16 or bf16.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use crate::Error;
use crate::io::files::{open, read, write_parts_atomically};

/// Maximum size of a file that is read into memory: image models and adapters, the largest 5 GB. Language
/// models are read tensor by tensor.
const MAX_BYTES: u64 = 1 << 34;
/// Elements that are written at a time.
const PART: i64 = 1 << 26;
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

/// A safetensors file of any size, read tensor by tensor.
#[derive(Debug)]
pub struct TensorReader {
    file: File,
    path: PathBuf,
    header: Metadata,
    /// Where the tensors start in the file.
    start: u64,
}

impl TensorReader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// If it cannot be read, or its header is malformed or does not fit the size of the file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let error = |source| Error::File { action: "read", path: path.into(), source };
        let mut file = open(path, u64::MAX)?;
        let length = file.metadata().map_err(error)?.len();
        let header = read_header(&mut file, length, path)?;
        let start = file.stream_position().map_err(error)?;
        Ok(Self { file, path: path.into(), header, start })
    }

    /// An entry of the header's `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The tensor of that name in the dtype of the file, f32 or bf16; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or has another dtype.
    pub fn tensor(&mut self, name: &str) -> Result<Option<Tensor>, Error> {
        let error = |source| Error::File { action: "read", path: self.path.clone(), source };
        let Some(info) = self.header.info(name) else { return Ok(None) };
        let kind = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::BF16 => Kind::BFloat16,
            other => {
                let reason = format!("tensor `{name}` has dtype {other:?}; expected F32 or BF16");
                return Err(Error::Malformed { path: self.path.clone(), reason });
            }
        };
        let (first, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        self.file.seek(SeekFrom::Start(self.start + first)).map_err(error)?;
        let bytes = take(&mut self.file, end - first, &self.path)?;
        #[allow(clippy::cast_possible_wrap)]
        let shape: Vec<i64> = info.shape.iter().map(|&size| size as i64).collect();
        Ok(Some(Tensor::f_from_data_size(&bytes, &shape, kind)?))
    }
}

/// Writes tensors as a safetensors file atomically, and part by part: it may be larger than memory. Returns its size in
/// bytes.
///
/// `kind` is the dtype in the file: f32, or f16 for half the size; but a tensor in bf16 stays in bf16. `metadata` is a
/// single key and value: the header's map is unordered, and equal contents should give equal bytes.
///
/// # Errors
/// If the folder cannot be written or the disk is full; no partial file is left.
pub fn write_tensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: (&str, String),
    kind: Kind,
) -> Result<u64, Error> {
    let stored = |(name, tensor)| (stored_as(tensor, kind).1, name, tensor);
    let mut tensors: Vec<(Dtype, &str, &Tensor)> = tensors.into_iter().map(stored).collect();
    // The order of the library: larger elements first, so that all are aligned.
    tensors.sort_by(|(left, left_name, _), (right, right_name, _)| {
        right.cmp(left).then(left_name.cmp(right_name))
    });
    let header = header_bytes(&tensors, metadata)
        .map_err(|error| Error::Malformed { path: path.into(), reason: error.to_string() })?;
    let mut length = 0;
    let written = write_parts_atomically(path, |file| {
        let mut write = |bytes: &[u8]| {
            length += bytes.len() as u64;
            file.write_all(bytes)
        };
        write(&(header.len() as u64).to_le_bytes())?;
        write(&header)?;
        tensors.iter().try_for_each(|(_, _, tensor)| for_bytes(tensor, kind, &mut write))
    });
    written.map_err(|source| Error::File { action: "write", path: path.into(), source })?;
    Ok(length)
}

/// The header of a file with these tensors in this order, padded to a multiple of 8 bytes.
fn header_bytes(
    tensors: &[(Dtype, &str, &Tensor)],
    metadata: (&str, String),
) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let mut end = 0;
    let info = |(dtype, name, tensor): &(Dtype, &str, &Tensor)| {
        let start = end;
        end += tensor.numel() * dtype.bitsize() / 8;
        #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)]
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        ((*name).to_owned(), TensorInfo { dtype: *dtype, shape, data_offsets: (start, end) })
    };
    let infos = tensors.iter().map(info).collect();
    let metadata = HashMap::from([(metadata.0.to_owned(), metadata.1)]);
    let mut header = serde_json::to_string(&Metadata::new(Some(metadata), infos)?)?.into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// The dtype that a tensor is stored in.
fn stored_as(tensor: &Tensor, kind: Kind) -> (Kind, Dtype) {
    match (tensor.kind(), kind) {
        (Kind::BFloat16, _) => (Kind::BFloat16, Dtype::BF16),
        (_, Kind::Half) => (Kind::Half, Dtype::F16),
        _ => (Kind::Float, Dtype::F32),
    }
}

/// Does something with the elements in row-major order as [`write_tensors`] stores them: little-endian bytes, a part after
/// the other.
///
/// # Errors
/// If a part cannot be copied to main memory; errors of `act`.
pub fn for_bytes(
    tensor: &Tensor,
    kind: Kind,
    act: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let flat = tensor.f_detach().and_then(|tensor| tensor.f_flatten(0, -1)).map_err(std::io::Error::other)?;
    let count = flat.numel() as i64;
    for start in (0..count).step_by(PART as usize) {
        let part = flat.f_narrow(0, start, PART.min(count - start));
        let bytes = part.and_then(|part| to_bytes(&part, stored_as(tensor, kind).0));
        act(&bytes.map_err(std::io::Error::other)?)?;
    }
    Ok(())
}

fn to_bytes(flat: &Tensor, kind: Kind) -> Result<Vec<u8>, tch::TchError> {
    let stored = flat.f_to_kind(kind)?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; stored.numel() * kind.elt_size_in_bytes()];
    stored.f_copy_data_u8(&mut bytes, stored.numel())?;
    Ok(bytes)
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
