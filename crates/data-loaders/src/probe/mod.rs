//! Feeds untrusted bytes to every reader of lists, headers and archives: a reader must return, whatever the input.
//!
//! The property tests below and the fuzz targets (`fuzz/`) use the same readers, listed in `cases`. Most read from a
//! folder, so a tiny valid dataset is prepared for each, in memory if the system has a RAM disk, and one of its files
//! is replaced.

mod cases;

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use self::cases::{ARCHIVES, CASES, Case, PLAIN, Plain, Tree, fixtures};
use crate::fetch::{self, Limits};
use crate::registry::{DatasetEntry, dataset};
use crate::sources::layout;

/// Number of images whose content is read after the lists.
const IMAGES_READ: usize = 3;

/// Datasets ready to have a file replaced; removed on drop.
pub struct Probe {
    root: PathBuf,
}

impl Probe {
    /// Writes the datasets.
    ///
    /// # Errors
    /// If they cannot be written, or the test fixtures are missing.
    pub fn new() -> io::Result<Self> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let thread = format!("{:?}", std::thread::current().id());
        let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
        let probe = Self { root: base.join(format!("probe-{}-{digits}", std::process::id())) };
        for (index, case) in CASES.iter().enumerate() {
            let folder = probe.root.join(index.to_string());
            match case.tree {
                Tree::Fixture(name) => copy(&fixtures().join(name), &folder)?,
                Tree::Texts(files) => {
                    files.iter().try_for_each(|(name, text)| write(&folder.join(name), text))?
                }
            }
        }
        Ok(probe)
    }

    /// Number of readers.
    pub fn readers(&self) -> usize {
        CASES.len() + PLAIN.len() + ARCHIVES.len()
    }

    /// What a reader reads.
    pub fn name(&self, reader: usize) -> String {
        match self.kind(reader) {
            Kind::Case(case) => format!("{} of {}", case.file, case.set),
            Kind::Plain((name, ..)) => (*name).to_owned(),
            Kind::Archive(name) => name.to_owned(),
        }
    }

    /// Bytes that a reader accepts.
    ///
    /// # Errors
    /// If a fixture cannot be read.
    pub fn valid_input(&self, reader: usize) -> io::Result<Vec<u8>> {
        match self.kind(reader) {
            Kind::Case(Case { file, tree: Tree::Fixture(folder), .. }) => {
                fs::read(fixtures().join(folder).join(file))
            }
            Kind::Case(Case { file, tree: Tree::Texts(files), .. }) => {
                let found = files.iter().find(|(name, _)| name == file);
                let (_, text) = found.ok_or(io::ErrorKind::NotFound)?;
                Ok(text.as_bytes().to_vec())
            }
            Kind::Plain((_, _, valid)) => valid(),
            Kind::Archive(name) => archive(name),
        }
    }

    /// Runs a reader on the bytes; returns whether it accepted them.
    ///
    /// # Errors
    /// If the bytes cannot be written.
    pub fn feed(&self, reader: usize, bytes: &[u8]) -> io::Result<bool> {
        match self.kind(reader) {
            Kind::Plain((_, read, _)) => Ok(read(bytes)),
            Kind::Archive(name) => self.unpack(name, bytes),
            Kind::Case(case) => {
                let folder = reader.to_string();
                fs::write(self.root.join(&folder).join(case.file), bytes)?;
                let Ok(entry) = dataset(case.set) else { return Ok(false) };
                let classes = case.classes.unwrap_or(entry.classes);
                let entry = DatasetEntry { folder: Some(folder), classes, ..entry.clone() };
                let Ok(listing) = layout::list(&entry, &self.root) else { return Ok(false) };
                for sample in listing.parts.iter().flat_map(|part| part.iter().take(IMAGES_READ)) {
                    // Many of the images are missing; those in containers are present.
                    let _ = sample.place.content();
                }
                Ok(true)
            }
        }
    }

    fn unpack(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let (path, folder) = (self.root.join(name), self.root.join("unpacked"));
        fs::write(&path, bytes)?;
        fs::create_dir_all(&folder)?;
        let limits = Some(Limits { entries: 64, bytes: 1 << 20 });
        let unpacked =
            fetch::unpack("probe", &path, name, &folder, limits, &mut |_| ControlFlow::Continue(()));
        fs::remove_dir_all(&folder)?;
        Ok(unpacked.is_ok())
    }

    fn kind(&self, reader: usize) -> Kind {
        let plain = reader.checked_sub(CASES.len());
        match (CASES.get(reader), plain.and_then(|index| PLAIN.get(index))) {
            (Some(case), _) => Kind::Case(case),
            (None, Some(plain)) => Kind::Plain(plain),
            (None, None) => {
                Kind::Archive(ARCHIVES[reader.saturating_sub(CASES.len() + PLAIN.len()) % ARCHIVES.len()])
            }
        }
    }
}

enum Kind {
    Case(&'static Case),
    Plain(&'static Plain),
    Archive(&'static str),
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(path, text)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let target = to.join(file.file_name());
        if file.path().is_dir() {
            copy(&file.path(), &target)?
        } else {
            fs::copy(file.path(), target).map(drop)?
        }
    }
    Ok(())
}

/// An archive of one file.
fn archive(name: &str) -> io::Result<Vec<u8>> {
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(4);
    header.set_mode(0o644);
    tar.append_data(&mut header, "folder/file", &b"text"[..])?;
    let tar = tar.into_inner()?;
    match name {
        "a.tar" => Ok(tar),
        "a.zip" => {
            let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
            zip.start_file("folder/file", zip::write::SimpleFileOptions::default())?;
            zip.write_all(b"text")?;
            Ok(zip.finish()?.into_inner())
        }
        _ => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&tar)?;
            encoder.finish()
        }
    }
}

#[cfg(test)]
mod tests;
