//! Reads the values of a byte dataset: rows along the first dimension, assembled from the chunks that contain them.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::read::ZlibDecoder;

use crate::sources::formats::hdf5::file::{Filter, Hdf5, Layout};

/// Maximum size of a chunk in bytes; by default h5py makes chunks of at most a megabyte.
const MAX_CHUNK_BYTES: u64 = 1 << 26;
/// Maximum size in bytes of rows per read.
const MAX_ROWS: u64 = 1 << 28;
/// Bytes of unpacked chunks to cache: rows are often read in order and share chunks.
const CACHE_BYTES: usize = 1 << 26;

/// A byte dataset of dimensions `dims`.
pub(super) struct Dataset {
    file: Hdf5,
    dims: Vec<u64>,
    place: Place,
}

enum Place {
    /// Stored from this byte on.
    Contiguous(u64),
    Chunked(Chunks),
}

struct Chunks {
    /// The chunk dimensions.
    size: Vec<u64>,
    /// The chunks that were written, by grid position.
    written: BTreeMap<Vec<u64>, Chunk>,
    filters: Vec<Filter>,
    cache: Mutex<VecDeque<(u64, Arc<Vec<u8>>)>>,
}

#[derive(Clone, Copy)]
struct Chunk {
    start: u64,
    length: u64,
    /// Bit mask of skipped filters.
    skipped: u32,
}

impl Dataset {
    /// Opens the dataset with this name in the root group of a file.
    pub(super) fn open(path: &Path, name: &str) -> Result<Self, String> {
        let file = Hdf5::open(path)?;
        let header = file.dataset(name)?;
        let mut dims = header.dims;
        let place = match header.layout.ok_or("it has no layout")? {
            Layout::Contiguous { start, length } => {
                let expected = dims.iter().try_fold(1_u64, |count, dim| count.checked_mul(*dim));
                if expected != Some(length) {
                    return Err(format!("{length} bytes are not {dims:?} values"));
                }
                Place::Contiguous(start)
            }
            Layout::Chunked { mut chunk, tree } => {
                let bytes = chunk.iter().try_fold(1_u64, |count, size| count.checked_mul(*size));
                if chunk.len() != dims.len()
                    || !bytes.is_some_and(|bytes| (1..=MAX_CHUNK_BYTES).contains(&bytes))
                {
                    return Err(format!("its chunk shape {chunk:?} is not supported"));
                }
                let written = tree.map_or(Ok(BTreeMap::new()), |tree| list(&file, tree, &chunk))?;
                if dims.len() == 1 {
                    dims.push(1);
                    chunk.push(1);
                }
                let (filters, cache) = (header.filters, Mutex::default());
                Place::Chunked(Chunks { size: chunk, written, filters, cache })
            }
        };
        Ok(Self { file, dims, place })
    }

    /// Its dimensions; a chunked column has a second dimension of 1.
    pub(super) fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// The values of `count` rows starting at `first`.
    pub(super) fn rows(&self, first: u64, count: u64) -> Result<Vec<u8>, String> {
        if first.checked_add(count).is_none_or(|end| end > self.dims[0]) {
            return Err(format!("there is no row {first}"));
        }
        let too_large = || format!("its rows are larger than {MAX_ROWS} bytes");
        let row = self.dims[1..].iter().try_fold(1_u64, |bytes, dim| bytes.checked_mul(*dim));
        let row = row.ok_or_else(too_large)?;
        let length = row.checked_mul(count).filter(|length| *length <= MAX_ROWS).ok_or_else(too_large)?;
        match &self.place {
            Place::Contiguous(start) => {
                let first = row.saturating_mul(first);
                self.file.bytes(start.saturating_add(first), length)
            }
            Place::Chunked(chunks) => chunks.rows(self, first, count, length),
        }
    }
}

/// The chunks listed by a B-tree, padded to at least two dimensions; a chunk's key has its length, the skipped filters
/// and its first value.
fn list(file: &Hdf5, tree: u64, size: &[u64]) -> Result<BTreeMap<Vec<u64>, Chunk>, String> {
    let mut written = BTreeMap::new();
    let key = 8 + 8 * (size.len() + 1);
    file.leaves(tree, 1, key, &mut 0, &mut |key, start| {
        let (words, _) = key.as_chunks::<4>();
        let (length, skipped) = (u32::from_le_bytes(words[0]), u32::from_le_bytes(words[1]));
        let (offsets, _) = key[8..].as_chunks::<8>();
        let offsets = offsets.iter().map(|offset| u64::from_le_bytes(*offset));
        let mut place: Vec<u64> = offsets.zip(size).map(|(offset, size)| offset / size).collect();
        place.resize(place.len().max(2), 0);
        let chunk = Chunk { start, length: u64::from(length), skipped };
        if written.insert(place.clone(), chunk).is_some() {
            return Err(format!("its chunk {place:?} occurs twice"));
        }
        Ok(())
    })?;
    Ok(written)
}

impl Chunks {
    fn rows(&self, dataset: &Dataset, first: u64, count: u64, length: u64) -> Result<Vec<u8>, String> {
        // Values that no chunk was written for are zero.
        let mut rows = vec![0; length as usize];
        let rows_of_chunks = first / self.size[0]..(first + count).div_ceil(self.size[0]);
        let from = vec![rows_of_chunks.start];
        let chunks = self.written.range(from..).take_while(|(place, _)| place[0] < rows_of_chunks.end);
        for (place, chunk) in chunks {
            let values = self.values(&dataset.file, *chunk)?;
            self.copy(&values, place, &dataset.dims, first, count, &mut rows);
        }
        Ok(rows)
    }

    /// The unpacked values of a chunk.
    fn values(&self, file: &Hdf5, chunk: Chunk) -> Result<Arc<Vec<u8>>, String> {
        let cache = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, values)) = cache().iter().find(|(start, _)| *start == chunk.start) {
            return Ok(Arc::clone(values));
        }
        let expected = self.size.iter().product::<u64>();
        if chunk.length > 2 * MAX_CHUNK_BYTES {
            return Err(format!("a chunk claims {} bytes", chunk.length));
        }
        let mut values = file.bytes(chunk.start, chunk.length)?;
        for (index, filter) in self.filters.iter().enumerate().rev() {
            let skipped = index < 32 && chunk.skipped >> index & 1 == 1;
            if *filter == Filter::Deflate && !skipped {
                let mut unpacked = Vec::new();
                let read = ZlibDecoder::new(&values[..]).take(expected + 1).read_to_end(&mut unpacked);
                read.map_err(|error| format!("the chunk at {}: {error}", chunk.start))?;
                values = unpacked;
            }
        }
        if values.len() as u64 != expected {
            return Err(format!("the chunk at {} does not have {expected} values", chunk.start));
        }
        let values = Arc::new(values);
        let mut cache = cache();
        cache.push_back((chunk.start, Arc::clone(&values)));
        while cache.len() > 1 && cache.len() * values.len() > CACHE_BYTES {
            cache.pop_front();
        }
        Ok(values)
    }

    /// Copies the values of a chunk that belong to the `count` rows from `first` on, run by run.
    fn copy(&self, values: &[u8], place: &[u64], dims: &[u64], first: u64, count: u64, rows: &mut [u8]) {
        let size = &self.size;
        let origin: Vec<u64> =
            place.iter().zip(size).map(|(place, size)| place.saturating_mul(*size)).collect();
        if origin.iter().zip(dims).any(|(origin, dim)| origin >= dim) {
            return;
        }
        // Chunks span the axes after `last` completely, so a run covers all of them.
        let last = (1..dims.len()).rev().find(|axis| size[*axis] != dims[*axis]).unwrap_or(1);
        let inner = dims[last + 1..].iter().product::<u64>();
        let length = size[last].min(dims[last] - origin[last]) * inner;
        let overlap = origin[0].max(first)..(origin[0] + size[0]).min(first + count);
        let runs_of_a_row = size[1..last].iter().product::<u64>();
        for row in overlap {
            'runs: for run in 0..runs_of_a_row {
                let (mut target, mut source, mut stride) = (row - first, row - origin[0], runs_of_a_row);
                for axis in 1..last {
                    stride /= size[axis];
                    let at = run / stride % size[axis];
                    if origin[axis] + at >= dims[axis] {
                        continue 'runs;
                    }
                    target = target * dims[axis] + origin[axis] + at;
                    source = source * size[axis] + at;
                }
                let target = ((target * dims[last] + origin[last]) * inner) as usize;
                let source = (source * size[last] * inner) as usize;
                let length = length as usize;
                rows[target..target + length].copy_from_slice(&values[source..source + length]);
            }
        }
    }
}
