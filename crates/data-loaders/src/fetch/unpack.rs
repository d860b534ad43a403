//! Unpacks untrusted archives into a folder: nothing is written outside the folder, no links or devices are created,
//! and archives that expand to far more than their size are rejected before the disk is full.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tar::EntryType;
use zip::ZipArchive;

use crate::fetch::budget::{Budget, Counted, Limited, Limits};
use crate::fetch::error::{reading, writing};
use crate::fetch::{FetchError, FetchEvent, Step, Watch};

/// Bytes per copy.
const CHUNK: usize = 1 << 17;
/// Maximum folder depth.
const MAX_DEPTH: usize = 32;
/// Maximum depth at which archives inside an archive are looked for; Caltech-101 has one.
const MAX_NESTING: usize = 2;

/// Reason for rejecting an empty archive: it is the remains of one that was truncated or never written.
const EMPTY: &str = "the archive has no entries";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Zip,
    Tar,
    TarGz,
    /// A single compressed file.
    Gz,
    /// Not an archive.
    File,
}

impl Kind {
    /// Determined by the extension; an `.npz` is a zip, but its readers need it as it is.
    fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        match () {
            () if ends(&[".tar.gz", ".tgz"]) => Self::TarGz,
            () if ends(&[".tar"]) => Self::Tar,
            () if ends(&[".zip"]) => Self::Zip,
            () if ends(&[".gz"]) => Self::Gz,
            () => Self::File,
        }
    }

    fn is_archive(self) -> bool {
        matches!(self, Self::Zip | Self::Tar | Self::TarGz)
    }
}

/// Unpacks the file called `name` into `folder`, including archives near its top level; a file that is not an archive
/// is copied.
pub(crate) fn unpack(
    set: &str,
    path: &Path,
    name: &str,
    folder: &Path,
    limits: Option<Limits>,
    watch: &mut Watch,
) -> Result<(), FetchError> {
    let size = reading(set, path, path.metadata())?.len();
    let limits = limits.unwrap_or_else(|| Limits::of_archive(size));
    let budget = Budget { bytes: Cell::new(limits.bytes), entries: Cell::new(limits.entries), limits };
    let mut archive = Archive { set, path, name, size, budget: &budget, watch };
    archive.unpack(folder)?;
    if Kind::of(name).is_archive() {
        for nested in archives_in(folder, MAX_NESTING) {
            let size = reading(set, &nested, nested.metadata())?.len();
            let name = nested.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let mut archive =
                Archive { set, path: &nested, name: &name, size, budget: &budget, watch: archive.watch };
            archive.unpack(nested.parent().unwrap_or(folder))?;
            writing(set, &nested, fs::remove_file(&nested))?;
        }
    }
    Ok(())
}

/// Whether a file of this name is not unpacked but copied.
pub(super) fn is_copied(name: &str) -> bool {
    Kind::of(name) == Kind::File
}

/// Archives in a folder, down to `depth`, sorted by name.
fn archives_in(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found = Vec::new();
    for path in entries {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && depth > 0 {
            found.extend(archives_in(&path, depth - 1));
        } else if path.is_file() && Kind::of(&name).is_archive() {
            found.push(path);
        }
    }
    found.sort();
    found
}

struct Archive<'a, 'w> {
    set: &'a str,
    path: &'a Path,
    name: &'a str,
    size: u64,
    budget: &'a Budget,
    watch: &'a mut Watch<'w>,
}

impl Archive<'_, '_> {
    fn reject(&self, reason: String) -> FetchError {
        FetchError::Archive { set: self.set.to_owned(), path: self.path.to_owned(), reason }
    }

    fn reject_entry(&self, number: usize, name: &str, reason: &str) -> FetchError {
        self.reject(format!("entry {number}, `{}`: {reason}", name.escape_debug()))
    }

    fn progress(&mut self, done: u64) -> Result<(), FetchError> {
        let (file, total) = (self.name, Some(self.size));
        match (self.watch)(&FetchEvent::Progress {
            step: Step::Unpack,
            file,
            done: done.min(self.size),
            total,
        }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(FetchError::Stopped { set: self.set.to_owned() }),
        }
    }

    fn unpack(&mut self, folder: &Path) -> Result<(), FetchError> {
        let file = reading(self.set, self.path, File::open(self.path))?;
        let read = Cell::new(0);
        let counted = BufReader::with_capacity(CHUNK, Counted { inner: file, read: &read });
        match Kind::of(self.name) {
            Kind::Zip => self.unpack_zip(folder),
            Kind::Tar => self.unpack_tar(counted, &read, folder),
            Kind::TarGz => self.unpack_tar(MultiGzDecoder::new(counted), &read, folder),
            Kind::Gz => {
                let name = self.name.rsplit_once('.').map_or(self.name, |(stem, _)| stem);
                let target = folder.join(name);
                self.write(&mut MultiGzDecoder::new(counted), 1, name, &target, &read)
            }
            Kind::File => {
                let (name, target) = (self.name, folder.join(self.name));
                let mut counted = counted;
                self.write(&mut counted, 1, name, &target, &read)
            }
        }
    }

    fn unpack_tar(&mut self, stream: impl Read, read: &Cell<u64>, folder: &Path) -> Result<(), FetchError> {
        // The limit applies to the stream, not to the files: headers and long names can be part of a bomb, too.
        let mut archive = tar::Archive::new(Limited { inner: stream, budget: self.budget });
        let entries = archive.entries().map_err(|error| self.reject(error.to_string()))?;
        let mut count = 0;
        for (entry, number) in entries.zip(1..) {
            let mut entry = entry.map_err(|error| self.reject(format!("entry {number}: {error}")))?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let kind = entry.header().entry_type();
            if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
                continue;
            }
            count += 1;
            self.budget.take_entry().map_err(|reason| self.reject(reason))?;
            let target = self.target(folder, number, &name)?;
            match kind {
                EntryType::Directory => writing(self.set, &target, fs::create_dir_all(&target))?,
                EntryType::Regular | EntryType::Continuous => {
                    let size = entry.size();
                    let written = self.write_counted(&mut entry, number, &name, &target, read)?;
                    if written != size {
                        return Err(self.reject_entry(number, &name, "it is truncated"));
                    }
                }
                EntryType::Symlink | EntryType::Link => {
                    return Err(self.reject_entry(number, &name, "it is a link; links are not allowed"));
                }
                _ => return Err(self.reject_entry(number, &name, "it is neither a file nor a folder")),
            }
        }
        if count == 0 {
            return Err(self.reject(EMPTY.to_owned()));
        }
        // Read to the end, where a compressed stream has its checksum.
        let rest = io::copy(&mut archive.into_inner(), &mut io::sink());
        rest.map(drop).map_err(|error| self.reject(error.to_string()))
    }

    fn unpack_zip(&mut self, folder: &Path) -> Result<(), FetchError> {
        let file = reading(self.set, self.path, File::open(self.path))?;
        let mut archive = ZipArchive::new(BufReader::with_capacity(CHUNK, file))
            .map_err(|error| self.reject(error.to_string()))?;
        if archive.is_empty() {
            return Err(self.reject(EMPTY.to_owned()));
        }
        let done = Cell::new(0);
        for index in 0..archive.len() {
            let number = index + 1;
            self.budget.take_entry().map_err(|reason| self.reject(reason))?;
            let opened = archive.by_index(index);
            let entry = opened.map_err(|error| self.reject(format!("entry {number}: {error}")))?;
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            let target = self.target(folder, number, &name)?;
            // The file type bits of the Unix mode; 0 if the archive was made on another system.
            match entry.unix_mode().unwrap_or(0) & 0o170_000 {
                0o120_000 => {
                    return Err(self.reject_entry(number, &name, "it is a link; links are not allowed"));
                }
                0 | 0o040_000 | 0o100_000 => {}
                _ => return Err(self.reject_entry(number, &name, "it is neither a file nor a folder")),
            }
            let packed = entry.compressed_size();
            if entry.is_dir() {
                writing(self.set, &target, fs::create_dir_all(&target))?;
            } else {
                let mut limited = Limited { inner: entry, budget: self.budget };
                self.write_counted(&mut limited, number, &name, &target, &done)?;
            }
            done.set(done.get() + packed);
        }
        Ok(())
    }

    /// Writes a whole stream to one file, within the budget.
    fn write(
        &mut self,
        stream: &mut dyn Read,
        number: usize,
        name: &str,
        target: &Path,
        read: &Cell<u64>,
    ) -> Result<(), FetchError> {
        let mut limited = Limited { inner: stream, budget: self.budget };
        self.write_counted(&mut limited, number, name, target, read).map(drop)
    }

    /// Writes one file and returns its size in bytes.
    fn write_counted(
        &mut self,
        stream: &mut dyn Read,
        number: usize,
        name: &str,
        target: &Path,
        read: &Cell<u64>,
    ) -> Result<u64, FetchError> {
        if let Some(parent) = target.parent() {
            writing(self.set, parent, fs::create_dir_all(parent))?;
        }
        let mut file = writing(self.set, target, File::create(target))?;
        let (mut chunk, mut written) = (vec![0; CHUNK], 0);
        loop {
            let count = stream.read(&mut chunk);
            let count = count.map_err(|error| self.reject_entry(number, name, &error.to_string()))?;
            if count == 0 {
                return Ok(written);
            }
            writing(self.set, target, file.write_all(&chunk[..count]))?;
            written += count as u64;
            self.progress(read.get())?;
        }
    }

    /// The destination of an entry, if it stays within the folder.
    fn target(&self, folder: &Path, number: usize, name: &str) -> Result<PathBuf, FetchError> {
        let mut target = folder.to_owned();
        for (component, depth) in Path::new(name).components().zip(1..) {
            match component {
                Component::Normal(_) if depth > MAX_DEPTH => {
                    return Err(self.reject_entry(number, name, "its path is nested too deeply"));
                }
                Component::Normal(part) if part.to_string_lossy().contains(['\\', '\0']) => {
                    return Err(self.reject_entry(number, name, "its path contains an invalid character"));
                }
                Component::Normal(part) => target.push(part),
                Component::CurDir => {}
                _ => return Err(self.reject_entry(number, name, "its path points outside the folder")),
            }
        }
        Ok(target)
    }
}
