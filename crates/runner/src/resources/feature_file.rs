//! Features of frozen models in a file, which any later run reads row by row.
//!
//! A file has the safetensors format with one tensor, `features`, and is named by a hash of everything that the
//! features depend on. It is written under another name, in order, and renamed when it is complete; after an
//! interruption it is continued. One process writes it at a time, under a file lock, and the others wait.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::error::RunError;
use crate::io::files::{create_folder, writing};

/// How often the lock of another process is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// What a file contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureTable {
    /// Everything that the features depend on, for the name of the file and its metadata.
    pub key: String,
    /// `[rows, ...]`.
    pub shape: Vec<i64>,
    /// Dtype: `Float` or `BFloat16`.
    pub kind: Kind,
}

impl FeatureTable {
    /// Size of the features, bytes.
    pub fn bytes(&self) -> u64 {
        self.rows() * self.row_bytes()
    }

    fn rows(&self) -> u64 {
        u64::try_from(self.shape[0]).unwrap_or(0)
    }

    fn row_bytes(&self) -> u64 {
        let values: i64 = self.shape[1..].iter().product();
        u64::try_from(values).unwrap_or(0) * self.kind.elt_size_in_bytes() as u64
    }

    /// The length and the text of the header.
    fn header(&self) -> Vec<u8> {
        let dtype = if self.kind == Kind::BFloat16 { "BF16" } else { "F32" };
        let features = json!({"dtype": dtype, "shape": self.shape, "data_offsets": [0, self.bytes()]});
        let mut text = json!({"__metadata__": {"key": self.key}, "features": features}).to_string();
        // The tensor starts at a multiple of 8 bytes, as the format recommends.
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    /// The path of the file in a folder.
    pub fn path(&self, folder: &Path) -> PathBuf {
        let name = blake3::hash(&self.header()).to_hex();
        folder.join(format!("features-{}.safetensors", &name[..32]))
    }
}

/// A complete file, open for reading.
#[derive(Debug)]
pub struct FeatureFile {
    file: File,
    path: PathBuf,
    table: FeatureTable,
    /// Where the first row starts.
    start: u64,
}

impl FeatureFile {
    /// Opens the file of a table if it is complete.
    fn open(path: &Path, table: &FeatureTable) -> Result<Option<Self>, RunError> {
        let Ok(file) = File::open(path) else { return Ok(None) };
        let header = table.header();
        let mut found = vec![0; header.len()];
        let start = header.len() as u64;
        let is_whole = file.metadata().is_ok_and(|metadata| metadata.len() == start + table.bytes());
        if !is_whole || file.read_exact_at(&mut found, 0).is_err() || found != header {
            return Err(damaged(path));
        }
        Ok(Some(Self { file, path: path.to_owned(), table: table.clone(), start }))
    }

    /// Opens the file of a table in `folder`; if there is none, makes it. `make` gets the number of rows that there are
    /// already, a multiple of `together` unless all are there, and a function that appends tensors of `together` rows.
    /// `wait` is called while another process makes the file, and fails if that should stop.
    ///
    /// # Errors
    /// When the file cannot be written, or the file system has not enough space; errors of `make` and `wait`.
    pub fn open_or_make(
        folder: &Path,
        table: &FeatureTable,
        together: u64,
        wait: &mut dyn FnMut() -> Result<()>,
        make: impl FnOnce(u64, &mut dyn FnMut(&Tensor) -> Result<()>) -> Result<()>,
    ) -> Result<Self> {
        let path = table.path(folder);
        if let Some(whole) = Self::open(&path, table)? {
            return Ok(whole);
        }
        create_folder(folder)?;
        let partial = path.with_extension("partial");
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&partial);
        let mut file = writing(&partial, options)?;
        while let Err(error) = file.try_lock() {
            match error {
                TryLockError::WouldBlock => wait()?,
                TryLockError::Error(error) => writing(&partial, Err(error))?,
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
        // The process that had the lock has made it, or has left a part of it.
        if let Some(whole) = Self::open(&path, table)? {
            return Ok(whole);
        }
        let rows = writing(&partial, continued(&mut file, table, together))?;
        check_space(&path, (table.rows() - rows) * table.row_bytes())?;
        let mut append = |rows: &Tensor| -> Result<()> {
            let rows = rows.f_to_kind(table.kind)?.f_to_device(Device::Cpu)?.f_contiguous()?;
            let mut bytes = vec![0; rows.numel() * table.kind.elt_size_in_bytes()];
            rows.f_copy_data_u8(&mut bytes, rows.numel())?;
            Ok(writing(&partial, file.write_all(&bytes))?)
        };
        make(rows, &mut append)?;
        let publish = || {
            file.sync_all()?;
            std::fs::rename(&partial, &path)?;
            File::open(folder)?.sync_all()
        };
        writing(&path, publish())?;
        Self::open(&path, table)?.ok_or_else(|| damaged(&path).into())
    }

    /// The bytes of some rows, one after the other.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(&self, rows: &[usize]) -> Result<Vec<u8>, RunError> {
        let size = self.table.row_bytes();
        let mut bytes = vec![0; rows.len() * size as usize];
        for (row, bytes) in rows.iter().zip(bytes.chunks_exact_mut(size as usize)) {
            let read = self.file.read_exact_at(bytes, self.start + *row as u64 * size);
            read.map_err(|_| damaged(&self.path))?;
        }
        Ok(bytes)
    }

    /// Rows `[n, ...]` from their bytes.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn tensor(&self, bytes: &[u8]) -> Result<Tensor> {
        let shape = [&[-1], &self.table.shape[1..]].concat();
        let count = (bytes.len() / self.table.kind.elt_size_in_bytes()) as i64;
        Ok(Tensor::f_from_data_size(bytes, &[count], self.table.kind)?.f_view(&shape[..])?)
    }
}

/// Prepares a partial file to be continued; returns the number of its rows.
fn continued(file: &mut File, table: &FeatureTable, together: u64) -> std::io::Result<u64> {
    let header = table.header();
    let mut found = vec![0; header.len()];
    let start = header.len() as u64;
    let mut rows = 0;
    if file.read_exact_at(&mut found, 0).is_ok() && found == header {
        rows = ((file.metadata()?.len() - start) / table.row_bytes().max(1)).min(table.rows());
        // The rows are computed in the same batches as without an interruption, so that their bytes are the same.
        if rows < table.rows() {
            rows -= rows % together;
        }
    }
    file.set_len(start + rows * table.row_bytes())?;
    file.write_all_at(&header, 0)?;
    file.seek(SeekFrom::End(0))?;
    Ok(rows)
}

fn damaged(path: &Path) -> RunError {
    RunError::DamagedFeatures { path: path.into() }
}

/// Fails if the file system has less space than a file needs.
fn check_space(path: &Path, needed: u64) -> Result<(), RunError> {
    let system = rustix::fs::statvfs(path.parent().unwrap_or(Path::new(".")));
    // A system that does not say is tried.
    let free = system.map_or(u64::MAX, |system| system.f_bavail.saturating_mul(system.f_frsize));
    if free >= needed {
        return Ok(());
    }
    let reason = format!("it needs {needed} bytes, and {free} are free: name another folder");
    writing(path, Err(std::io::Error::new(std::io::ErrorKind::StorageFull, reason)))
}
