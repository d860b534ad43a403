//! Readers of container formats, limited to what our datasets need.
//!
//! Parquet comes from a library; MATLAB's MAT 5, Python's pickle, NumPy's npy, NORB's matrices, TensorFlow's
//! records and the part of HDF5 that one dataset uses are small enough to be read here, where a wrong length only results in an error. Errors are
//! clauses.

pub(crate) mod hdf5;
pub(crate) mod mat5;
pub(crate) mod norb;
pub(crate) mod npz;
pub(crate) mod parquet;
pub(crate) mod pickle;
pub(crate) mod raw;
pub(crate) mod tfrecord;

/// A bounds-checked position in a byte slice.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.position >= self.bytes.len()
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.position.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("it is truncated at byte {}", self.bytes.len()))?;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Skips to a multiple of `size`, or to the end.
    pub(crate) fn align(&mut self, size: usize) {
        self.position = self.position.next_multiple_of(size).min(self.bytes.len());
    }

    /// The bytes before the next newline, which is skipped.
    pub(crate) fn line(&mut self) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|byte| *byte == b'\n');
        let line = self.take(length.ok_or_else(|| "a line is not terminated".to_owned())?)?;
        self.position += 1;
        Ok(line)
    }
}
