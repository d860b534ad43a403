//! Reader for NumPy's npz archives: a zip of npy files (NEP 1). A member may be far larger than memory, so it is read
//! as a stream and only the requested images are kept.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zip::ZipArchive;

use crate::io::files;
use crate::sources::formats::raw::Shape;
use crate::sources::sample::{Content, Records};

/// Maximum number of integers in an array; dSprites has six for each of 737,280 images.
const MAX_INTEGERS: usize = 1 << 23;
/// Maximum size in bytes of the images kept in memory; VTAB's subset of dSprites has 306 MB.
const MAX_CACHED_BYTES: u64 = 1 << 30;

/// The header of an npy file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// NumPy's type string, such as `|u1` or `<i8`.
    pub(crate) kind: String,
    pub(crate) shape: Vec<usize>,
}

/// Reads the header and leaves the reader at the first value.
pub(crate) fn header(reader: &mut impl Read) -> Result<Header, String> {
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(|error| error.to_string())?;
    if &start[..6] != b"\x93NUMPY" {
        return Err("it is not an npy file".into());
    }
    let mut length = [0; 4];
    let size = if start[6] == 1 { 2 } else { 4 };
    reader.read_exact(&mut length[..size]).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let length = u64::from(u32::from_le_bytes(length)).min(1 << 16);
    reader.take(length).read_to_string(&mut text).map_err(|error| error.to_string())?;
    parse_header(&text).ok_or_else(|| format!("its header `{}` is not supported", text.trim()))
}

fn parse_header(text: &str) -> Option<Header> {
    let after = |key: &str| Some(text.split_once(key)?.1.trim_start_matches([' ', ':']));
    let kind = after("'descr'")?.strip_prefix('\'')?.split_once('\'')?.0;
    if !after("'fortran_order'")?.starts_with("False") {
        return None;
    }
    let shape = after("'shape'")?.strip_prefix('(')?.split_once(')')?.0;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape = sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?;
    Some(Header { kind: kind.to_owned(), shape })
}

/// Opens a member of an archive and passes its stream to a function.
fn with_member<T>(
    path: &Path,
    name: &str,
    work: impl FnOnce(&mut dyn Read) -> Result<T, String>,
) -> Result<T, String> {
    let file = files::open(path, u64::MAX).map_err(|error| error.to_string())?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| error.to_string())?;
    let mut member = archive.by_name(name).map_err(|error| format!("{name}: {error}"))?;
    work(&mut member).map_err(|reason| format!("{name}: {reason}"))
}

/// A matrix of 64-bit integers with this shape, in row-major order.
pub(crate) fn integers(path: &Path, name: &str, shape: [usize; 2]) -> Result<Vec<i64>, String> {
    with_member(path, name, |mut member| {
        let found = header(&mut member)?;
        if found.kind != "<i8" {
            return Err(format!("its values are `{}`, not `<i8`", found.kind));
        }
        if found.shape != shape {
            return Err(format!("its shape is {:?}, not {shape:?}", found.shape));
        }
        let count = shape[0].saturating_mul(shape[1]);
        if count > MAX_INTEGERS {
            return Err(format!("it claims {count} values; at most {MAX_INTEGERS} are supported"));
        }
        let mut bytes = Vec::new();
        member.take(8 * count as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() != 8 * count {
            return Err(format!("it does not contain exactly {count} values"));
        }
        let (values, _) = bytes.as_chunks::<8>();
        Ok(values.iter().map(|value| i64::from_le_bytes(*value)).collect())
    })
}

/// Images in a member of an archive.
pub(crate) struct NpzRecords {
    path: PathBuf,
    member: &'static str,
    shape: Shape,
    count: usize,
    cached: Mutex<HashMap<u64, Vec<u8>>>,
}

impl NpzRecords {
    /// Single-channel images `[images, height, width]` of bytes, whose values are multiplied by `scale`.
    pub(crate) fn open(path: PathBuf, member: &'static str, scale: u8) -> Result<Self, String> {
        let header = with_member(&path, member, |mut member| header(&mut member))?;
        let (kind, &[count, height, width]) = (header.kind.as_str(), &header.shape[..]) else {
            return Err(format!("{member}: its shape is {:?}", header.shape));
        };
        if kind != "|u1" {
            return Err(format!("{member}: its values are `{kind}`, not `|u1`"));
        }
        let shape = Shape {
            height,
            width,
            channels: 1,
            order: crate::sources::formats::raw::Order::Interleaved,
            scale,
        }
        .checked()?;
        Ok(Self { path, member, shape, count, cached: Mutex::default() })
    }

    /// Number of images.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

impl Records for NpzRecords {
    fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(&self, requested: &[u64]) -> Result<(), String> {
        let requested: BTreeSet<u64> = requested.iter().copied().collect();
        let size = self.shape.len() as u64;
        let all = size.saturating_mul(requested.len() as u64);
        if all > MAX_CACHED_BYTES {
            return Err(format!(
                "{}: its images have {all} bytes; at most {MAX_CACHED_BYTES} are cached",
                self.member
            ));
        }
        let cached = with_member(&self.path, self.member, |mut member| {
            header(&mut member)?;
            let (mut position, mut cached) = (0, HashMap::new());
            for index in requested {
                let gap = (index - position).saturating_mul(size);
                io::copy(&mut (&mut member).take(gap), &mut io::sink()).map_err(|error| error.to_string())?;
                let mut bytes = vec![0; self.shape.len()];
                member.read_exact(&mut bytes).map_err(|error| error.to_string())?;
                cached.insert(index, bytes);
                position = index + 1;
            }
            Ok(cached)
        })?;
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = cached;
        Ok(())
    }

    fn read(&self, index: u64) -> Result<Content, String> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        self.shape.picture(cached.get(&index).ok_or("the image was not prefetched")?).map(Content::Pixels)
    }
}
