//! Fetches a dataset from its official URL, a mirror or a local archive into the folder that `sources::layout` reads.
//!
//! [`fetch`] runs the steps in order: `plan` lists the files, with the help of `hub` for a repository of the Hugging Face
//! Hub; `download` puts each file into a download folder (`request` follows redirects,
//! `reply` checks the response, `partial` manages the partial file), `check` compares size and checksum with the
//! registry, `unpack` unpacks untrusted archives into a scratch folder within a `budget`, `place` renames that folder. A dataset is
//! either complete or absent; finished downloads are not repeated.

mod budget;
mod check;
mod download;
mod error;
mod hub;
mod lock;
mod partial;
mod place;
mod plan;
mod reply;
mod request;
mod unpack;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use budget::Limits;
pub use error::FetchError;
pub use hub::HUB;
pub use plan::{PlannedFile, planned_files};
pub use request::Credential;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use unpack::unpack;

use plan::{cached, local};

use crate::registry::{Distribution, Download};

/// Where files come from, if not from the official URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mirror {
    /// A web folder that holds the files under their own names; for a dataset without sources, the file itself.
    Web(String),
    /// A folder that holds the files under their own names, directly or in a subfolder named after the dataset.
    Folder(PathBuf),
    /// An archive; the dataset's other files are in the same folder.
    File(PathBuf),
}

impl Mirror {
    /// Parses the argument of `--from`.
    ///
    /// # Errors
    /// [`FetchError::Mirror`] if it is neither a URL nor an existing file or folder.
    pub fn parse(word: &str) -> Result<Self, FetchError> {
        let path = PathBuf::from(word);
        if word.starts_with("http://") || word.starts_with("https://") {
            Ok(Self::Web(word.trim_end_matches('/').to_owned()))
        } else if path.is_dir() {
            Ok(Self::Folder(path))
        } else if path.is_file() {
            Ok(Self::File(path))
        } else {
            Err(FetchError::Mirror { word: word.to_owned() })
        }
    }
}

/// What to fetch, and where to put it.
#[derive(Debug, Clone)]
pub struct FetchRequest<'a> {
    /// The files.
    pub distribution: Distribution<'a>,
    /// The folder that contains the dataset or model folders.
    pub root: &'a Path,
    /// The download folder.
    pub downloads: &'a Path,
    /// The source, if not the official URLs.
    pub mirror: Option<&'a Mirror>,
    /// Whether the terms have been accepted, if there are any.
    pub terms_accepted: bool,
    /// Timeout and retry settings for downloads.
    pub patience: Patience,
    /// Limits on what an archive may unpack to; derived from its size if not given.
    pub limits: Option<Limits>,
    /// Inspects the unpacked files before their folder is renamed.
    pub inspect: Option<Inspect>,
    /// A token for a single site.
    pub credential: Option<&'a Credential>,
    /// The address to use instead of [`HUB`].
    pub hub: &'a str,
}

/// Inspects a folder of unpacked files and reports the first invalid one.
pub type Inspect = fn(&Path) -> Result<(), Fault>;

/// An invalid file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its name in the folder.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Timeout and retry settings of a download.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Number of consecutive failures, with almost no progress between them, before giving up.
    pub attempts: u32,
    /// Pause after the first failure; doubled after each further one, up to one minute.
    pub pause: Duration,
    /// Timeout for connecting, for receiving all response headers, and for each 16 KiB (or the rest) of the body.
    pub timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 6, pause: Duration::from_secs(2), timeout: Duration::from_secs(60) }
    }
}

/// The current step for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Downloading.
    Load,
    /// Computing its checksum.
    Check,
    /// Unpacking.
    Unpack,
}

/// A progress event of a fetch.
#[derive(Debug)]
pub enum FetchEvent<'a> {
    /// Bytes done, and the total if known.
    Progress {
        /// The current step.
        step: Step,
        /// Name of the file.
        file: &'a str,
        /// Bytes done.
        done: u64,
        /// Total number of bytes.
        total: Option<u64>,
    },
    /// A download was interrupted and resumes after a pause.
    Retry {
        /// Name of the file.
        file: &'a str,
        /// The cause.
        reason: &'a str,
        /// Length of the pause.
        pause: Duration,
    },
}

/// Receives the events; breaking stops the fetch immediately and keeps everything downloaded so far.
pub type Watch<'a> = dyn FnMut(&FetchEvent<'_>) -> ControlFlow<()> + 'a;

/// The result of a successful fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The folder already existed, fetched earlier from the same sources.
    AlreadyThere(PathBuf),
    /// The folder is new.
    New(PathBuf),
}

/// Fetches a dataset into its folder; does nothing if that has been done before.
///
/// # Errors
/// See [`FetchError`]. Downloaded files stay in the download folder, and the next call resumes from them; the dataset's
/// folder is not touched before everything is unpacked.
pub fn fetch(request: &FetchRequest, watch: &mut Watch) -> Result<Fetched, FetchError> {
    let distribution = request.distribution;
    let folder = place::folder(distribution, request.root);
    if place::was_fetched(distribution, &folder) {
        return Ok(Fetched::AlreadyThere(folder));
    }
    if let (Some(terms), false) = (distribution.terms, request.terms_accepted) {
        return Err(FetchError::Terms { set: distribution.name.to_owned(), terms: terms.to_owned() });
    }
    let files = planned_files(request)?;
    let _claim = place::Claim::take(distribution, request.root)?;
    // Another fetch may have finished between the check and the claim.
    if place::was_fetched(distribution, &folder) {
        return Ok(Fetched::AlreadyThere(folder));
    }
    let mut obtained = Vec::new();
    for file in &files {
        obtained.push(Obtained { file, path: obtain(request, file, watch)? });
    }
    let mut scratch = place::Scratch::create(distribution, request.root)?;
    for one in &obtained {
        let into = one.file.source.into.as_deref().unwrap_or(".");
        let unpacked = one.unpack(request, &scratch.path().join(into), watch);
        unpacked.map_err(|error| one.set_aside(request, error))?;
    }
    if !distribution.sets.is_empty() {
        scratch.arrange(distribution.sets).map_err(|fault| match obtained.first() {
            Some(archive) => archive.set_aside(request, archive.mismatch(request, fault.reason)),
            None => faulty(request, &obtained, fault),
        })?;
    }
    if let Some(Err(fault)) = request.inspect.map(|inspect| inspect(scratch.path())) {
        return Err(faulty(request, &obtained, fault));
    }
    scratch.publish(distribution, &folder)?;
    Ok(Fetched::New(folder))
}

/// The checked file, downloaded if necessary.
fn obtain(request: &FetchRequest, file: &PlannedFile, watch: &mut Watch) -> Result<PathBuf, FetchError> {
    let FetchRequest { patience, credential, .. } = *request;
    let (set, source) = (request.distribution.name, &file.source);
    if let Some(path) = local(request, &file.name) {
        check::check(set, &path, source, watch)?;
        return Ok(path);
    }
    let path = cached(request, source);
    error::writing(set, request.downloads, std::fs::create_dir_all(request.downloads))?;
    let job = download::Job { set, source, url: &file.from, path: &path, patience, credential };
    download::download(&job, watch)?;
    Ok(path)
}

/// A complete local file, checked against whatever checksum is published.
struct Obtained<'a> {
    file: &'a PlannedFile,
    path: PathBuf,
}

impl Obtained<'_> {
    /// Unpacks it into a folder. A downloaded file that is not an archive is not copied: the folder gets a second name
    /// for it, since it may have many gigabytes.
    fn unpack(&self, request: &FetchRequest, folder: &Path, watch: &mut Watch) -> Result<(), FetchError> {
        let (set, name) = (request.distribution.name, &self.file.name);
        error::writing(set, folder, std::fs::create_dir_all(folder))?;
        let loaded = self.path == cached(request, &self.file.source);
        let linked =
            loaded && unpack::is_copied(name) && std::fs::hard_link(&self.path, folder.join(name)).is_ok();
        if linked { Ok(()) } else { unpack::unpack(set, &self.path, name, folder, request.limits, watch) }
    }

    fn mismatch(&self, request: &FetchRequest, reason: String) -> FetchError {
        FetchError::Mismatch { set: request.distribution.name.to_owned(), path: self.path.clone(), reason }
    }

    /// If the file turns out damaged and has no published checksum, renames it so that the next fetch downloads it
    /// again; the error contains the new name.
    fn set_aside(&self, request: &FetchRequest, error: FetchError) -> FetchError {
        let loaded = self.path == cached(request, &self.file.source);
        match error {
            FetchError::Archive { set, path, reason } | FetchError::Mismatch { set, path, reason }
                if loaded && self.file.checksum.is_none() =>
            {
                let inner = path.file_name().filter(|_| path != self.path).map(|name| name.to_string_lossy());
                let inner = inner.map_or_else(String::new, |name| format!("its entry {name}: "));
                let reason = format!(
                    "{inner}{reason}; the file was set aside, and the next attempt downloads it again"
                );
                match partial::set_aside(&set, &self.path) {
                    Ok(path) => FetchError::Mismatch { set, path, reason },
                    Err(error) => error,
                }
            }
            error => error,
        }
    }
}

/// The error for an invalid file, naming its location.
fn faulty(request: &FetchRequest, obtained: &[Obtained], fault: Fault) -> FetchError {
    let (set, Fault { file, reason }) = (request.distribution.name.to_owned(), fault);
    match obtained.iter().find(|one| one.file.name == file) {
        Some(one) => one.set_aside(request, FetchError::Mismatch { set, path: one.path.clone(), reason }),
        None => FetchError::Mismatch { set, path: file.into(), reason },
    }
}

/// Removes these files of a dataset from the download folder, except those that `keep` selects. Also keeps the note
/// with the first download's checksum if none is published.
pub fn remove_downloads(request: &FetchRequest, files: &[PlannedFile], keep: impl Fn(&Download) -> bool) {
    for source in files.iter().map(|file| &file.source).filter(|source| !keep(source)) {
        // A file that cannot be removed only wastes space.
        let _ = std::fs::remove_file(cached(request, source));
    }
}
