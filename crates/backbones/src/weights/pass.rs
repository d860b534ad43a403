//! A file read once from its start to its end, its checksum taken on the way: a checkpoint of 26 GB is
//! neither read twice nor held whole.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use san_core::Error;
use san_core::io::files;

/// Bytes skipped at a time.
const PIECE: usize = 1 << 16;

/// A file and how far it is read.
pub(crate) struct Pass {
    path: PathBuf,
    file: BufReader<File>,
    hasher: blake3::Hasher,
    position: u64,
    length: u64,
}

impl Pass {
    /// At the start of a file.
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

    /// Bytes of the file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes; the caller knows that the file has so many.
    pub(crate) fn take(&mut self, count: u64) -> Result<Vec<u8>, Error> {
        let path = self.path.clone();
        let failed = |source| Error::File { action: "read", path, source };
        let mut bytes =
            vec![0; usize::try_from(count).map_err(|error| failed(std::io::Error::other(error)))?];
        let path = self.path.clone();
        self.read_exact(&mut bytes).map_err(|source| Error::File { action: "read", path, source })?;
        Ok(bytes)
    }

    /// Reads on to a byte that lies ahead.
    pub(crate) fn skip_to(&mut self, position: u64) -> Result<(), Error> {
        while self.position < position {
            let count = (position - self.position).min(PIECE as u64);
            self.take(count)?;
        }
        Ok(())
    }

    /// Reads the rest; blake3 of the whole file, in hex.
    pub(crate) fn finish(mut self) -> Result<String, Error> {
        self.skip_to(self.length)?;
        Ok(self.hasher.finalize().to_hex().to_string())
    }
}

impl Read for Pass {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.position += count as u64;
        Ok(count)
    }
}
