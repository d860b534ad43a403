//! Sequential file reading that computes the checksum on the way: a 26 GB checkpoint is neither read twice nor
//! held in memory.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use san_core::Error;
use san_core::io::files;

/// Chunk size for skipping, bytes.
const CHUNK: usize = 1 << 16;

/// A file and the read position in it.
pub(crate) struct HashingReader {
    path: PathBuf,
    file: BufReader<File>,
    hasher: blake3::Hasher,
    position: u64,
    length: u64,
}

impl HashingReader {
    /// Opens a file at its start.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { action: "read", path: path.into(), source };
        let file = files::open(path, u64::MAX)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok(Self {
            path: path.into(),
            file: BufReader::new(file),
            hasher: blake3::Hasher::new(),
            position: 0,
            length,
        })
    }

    /// File size in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Reads the next `count` bytes; the caller ensures that the file has that many.
    pub(crate) fn take(&mut self, count: u64) -> Result<Vec<u8>, Error> {
        let path = self.path.clone();
        let failed = |source| Error::File { action: "read", path, source };
        let mut bytes =
            vec![0; usize::try_from(count).map_err(|error| failed(std::io::Error::other(error)))?];
        let path = self.path.clone();
        self.read_exact(&mut bytes).map_err(|source| Error::File { action: "read", path, source })?;
        Ok(bytes)
    }

    /// Skips forward to a byte offset.
    pub(crate) fn skip_to(&mut self, position: u64) -> Result<(), Error> {
        while self.position < position {
            let count = (position - self.position).min(CHUNK as u64);
            self.take(count)?;
        }
        Ok(())
    }

    /// Reads the rest; returns blake3 of the whole file, hex.
    pub(crate) fn finish(mut self) -> Result<String, Error> {
        self.skip_to(self.length)?;
        Ok(self.hasher.finalize().to_hex().to_string())
    }
}

impl Read for HashingReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.position += count as u64;
        Ok(count)
    }
}
