//! Named frozen tensors, and safetensors files of them.
//!
//! Reading is strict both ways against a [`Layout`]: a tensor too few, too many or of another shape
//! is an error that names it. Pickles are refused. Values become f32; the file may hold f32, f16 or
//! bf16.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tch::{Device, Kind, Tensor};

use crate::files::{read, write_atomically};
use crate::init::initial;
use crate::trainables::{Group, TrainableSpec};
use crate::{Error, Layout};

/// The most bytes of a file that is read whole: models of images and adapters, the largest with 5 GB. Language models are
/// read tensor by tensor.
const MOST_BYTES: u64 = 1 << 34;

/// Named tensors that no gradient reaches.
#[derive(Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// From names and tensors.
    pub fn new(tensors: BTreeMap<String, Tensor>) -> Self {
        Self { tensors }
    }

    /// A randomly drawn model.
    ///
    /// # Errors
    /// When memory is missing.
    pub fn random(layout: &Layout, seed: u64) -> Result<Self, Error> {
        let nothing = Self::default();
        let draw = |tensor: &crate::layout::TensorSpec| {
            let spec = TrainableSpec {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                init: tensor.init.clone(),
                group: Group::Backbone,
            };
            Ok((tensor.name.clone(), initial(&spec, seed, &nothing)?))
        };
        Ok(Self { tensors: layout.tensors.iter().map(draw).collect::<Result<_, Error>>()? })
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, name: &str) -> Result<&Tensor, Error> {
        self.tensors
            .get(name)
            .ok_or_else(|| Error::MissingTensor { name: name.into(), place: "the frozen weights".into() })
    }

    /// Replaces or adds a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// Names and tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Handles to the same tensors.
    pub fn shallow_clone(&self) -> Self {
        Self { tensors: self.tensors.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect() }
    }

    /// The same on `device`.
    ///
    /// # Errors
    /// When the device has not enough memory.
    pub fn to_device(&self, device: Device) -> Result<Self, Error> {
        let tensors = self.tensors.iter().map(|(n, t)| Ok((n.clone(), t.f_to_device(device)?)));
        Ok(Self { tensors: tensors.collect::<Result<_, Error>>()? })
    }

    /// Checks names and shapes against `layout`, and that all values are finite; `place` is named in the error.
    ///
    /// # Errors
    /// For the first tensor that is missing, unexpected, of another shape, or that holds NaN or infinity.
    pub fn check(&self, layout: &Layout, place: &str) -> Result<(), Error> {
        for spec in &layout.tensors {
            let found = self
                .tensors
                .get(&spec.name)
                .map(Tensor::size)
                .ok_or_else(|| Error::MissingTensor { name: spec.name.clone(), place: place.into() })?;
            if found != spec.shape {
                let (name, expected) = (spec.name.clone(), spec.shape.clone());
                return Err(Error::WrongShape { name, place: place.into(), found, expected });
            }
        }
        let known: std::collections::BTreeSet<_> = layout.tensors.iter().map(|spec| &spec.name).collect();
        if let Some(name) = self.tensors.keys().find(|name| !known.contains(name)) {
            return Err(Error::UnexpectedTensor { name: name.clone(), place: place.into() });
        }
        for (name, tensor) in &self.tensors {
            if !is_finite(tensor)? {
                return Err(Error::NotFinite { name: name.clone(), place: place.into() });
            }
        }
        Ok(())
    }
}

/// Whether every value of a tensor is a finite number.
fn is_finite(tensor: &Tensor) -> Result<bool, Error> {
    if tensor.numel() == 0 {
        return Ok(true);
    }
    // Both are NaN where one value is. Ten times as fast as `isfinite().all()`, which makes copies.
    let (least, most) = tensor.f_aminmax(None::<i64>, false)?;
    Ok(f64::try_from(least)?.is_finite() && f64::try_from(most)?.is_finite())
}

/// A safetensors file in memory: its tensors in f32, its metadata and its blake3.
#[derive(Debug)]
pub struct TensorFile {
    /// The tensors.
    pub tensors: BTreeMap<String, Tensor>,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// blake3 of the whole file, in hex.
    pub checksum: String,
}

impl TensorFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is a pickle, is cut short, or holds a type other than f32, f16, bf16.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(&read(path, MOST_BYTES)?, path)
    }

    /// Reads a file's bytes; `path` is named in errors.
    ///
    /// # Errors
    /// As [`TensorFile::read`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        // A zip archive (torch.save since 1.6) or a bare pickle of protocol 2 and later.
        if bytes.starts_with(b"PK\x03\x04") || matches!(bytes, [0x80, 2..=5, ..]) {
            return Err(Error::Pickle { path: path.into() });
        }
        let malformed = |reason: String| Error::Malformed { path: path.into(), reason };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| malformed(error.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let file = SafeTensors::deserialize(bytes).map_err(|error| malformed(error.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F16 => Kind::Half,
                Dtype::BF16 => Kind::BFloat16,
                other => return Err(malformed(format!("tensor `{name}` has type {other:?}"))),
            };
            #[allow(clippy::cast_possible_wrap)]
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)?.f_to_kind(Kind::Float)?;
            tensors.insert(name.to_owned(), tensor);
        }
        Ok(Self { tensors, metadata, checksum: blake3::hash(bytes).to_hex().to_string() })
    }
}

/// Writes tensors as a safetensors file, whole or not at all, and returns its size in bytes.
///
/// `kind` is the type in the file: f32, or f16 where half the size matters. `metadata` is one key and
/// its value: the header's map has no order, and equal contents should be equal bytes.
///
/// # Errors
/// When the folder cannot be written or the disk is full; nothing is left behind.
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
        buffers.push((name, shape, bytes_of(tensor, kind)?));
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

/// The elements, in row order, as little-endian bytes of `kind` (f32 or f16).
fn bytes_of(tensor: &Tensor, kind: Kind) -> Result<Vec<u8>, Error> {
    let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_flatten(0, -1)?;
    let values: Vec<f32> = Vec::try_from(&flat)?;
    Ok(if kind == Kind::Half {
        values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect()
    } else {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    })
}
