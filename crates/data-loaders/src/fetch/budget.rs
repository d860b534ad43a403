//! How much an archive may unpack to, and streams that enforce it.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};

/// Limits on what an archive may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Number of files and folders.
    pub entries: u64,
    /// Number of bytes.
    pub bytes: u64,
}

impl Limits {
    /// Far above any legitimate archive of this size and far below a bomb: images hardly compress, label files may
    /// 300-fold.
    pub fn of_archive(size: u64) -> Self {
        Self { entries: 5_000_000, bytes: size.saturating_mul(100).saturating_add(64 << 20) }
    }
}

/// The remaining budget, shared by an archive and the archives inside it.
pub(super) struct Budget {
    pub(super) bytes: Cell<u64>,
    pub(super) entries: Cell<u64>,
    pub(super) limits: Limits,
}

impl Budget {
    pub(super) fn take_bytes(&self, count: u64) -> Result<(), String> {
        let left = self.bytes.get().checked_sub(count);
        self.bytes.set(left.ok_or_else(|| format!("it unpacks to more than {} bytes", self.limits.bytes))?);
        Ok(())
    }

    pub(super) fn take_entry(&self) -> Result<(), String> {
        let left = self.entries.get().checked_sub(1);
        self.entries.set(left.ok_or_else(|| format!("it has more than {} entries", self.limits.entries))?);
        Ok(())
    }
}

/// A stream that fails once the budget is exhausted.
pub(super) struct Limited<'a, R> {
    pub(super) inner: R,
    pub(super) budget: &'a Budget,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.budget.take_bytes(count as u64).map_err(io::Error::other)?;
        Ok(count)
    }
}

/// A file that counts the bytes read from it.
pub(super) struct Counted<'a> {
    pub(super) inner: File,
    pub(super) read: &'a Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}
