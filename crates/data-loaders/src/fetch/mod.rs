//! From a set's official address, a mirror or a local archive to the folder that `layout` reads.
//!
//! [`fetch`] takes the steps in turn: `download` brings each file into a folder of downloads (`request` follows redirects,
//! `answer` judges what a server says, `partial` holds what has come), `check` compares size and checksum with the
//! registry, `unpack` unpacks into a scratch folder and trusts no archive, `place` gives that folder its name. A set is
//! whole or not there; what was loaded is not loaded again.

mod answer;
mod check;
mod download;
mod error;
mod lock;
mod partial;
mod place;
mod plan;
mod request;
mod unpack;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::FetchError;
pub use plan::{PlannedFile, planned_files};
pub use request::Credential;
pub use unpack::Limits;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use unpack::unpack;

use plan::{cached, local};

use crate::registry::{Distribution, Download};

/// Where files come from, if not from the official addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mirror {
    /// A web folder that holds them under their own names; of a set without sources, the file itself.
    Web(String),
    /// A folder that holds them under their own names, or in a folder named after the set.
    Folder(PathBuf),
    /// An archive; other files of the set lie in the same folder.
    File(PathBuf),
}

impl Mirror {
    /// Understands the word after `--from`.
    ///
    /// # Errors
    /// [`FetchError::Mirror`] where it is neither an address nor a file or folder that is there.
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

/// What is fetched, and where it goes.
#[derive(Debug, Clone)]
pub struct FetchRequest<'a> {
    /// The files.
    pub distribution: Distribution<'a>,
    /// The folder that holds the folders of sets, or of models.
    pub root: &'a Path,
    /// The folder of downloads.
    pub downloads: &'a Path,
    /// Where from, if not from the official addresses.
    pub mirror: Option<&'a Mirror>,
    /// Whether terms that have to be accepted are.
    pub terms_accepted: bool,
    /// How patient a download is.
    pub patience: Patience,
    /// What an archive may unpack to; by its size if not given.
    pub limits: Option<Limits>,
    /// Looks at the unpacked files before their folder gets its name.
    pub inspect: Option<Inspect>,
    /// A token, for the one site that it is for.
    pub credential: Option<&'a Credential>,
}

/// Looks at a folder of unpacked files, and names the one that is not what it should be.
pub type Inspect = fn(&Path) -> Result<(), Fault>;

/// A file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its name in the folder.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
}

/// How long a download waits, and how often it tries.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Failures in a row, with next to nothing gained between them, after which it is given up.
    pub attempts: u32,
    /// Pause after the first failure; doubled after each further one, up to a minute.
    pub pause: Duration,
    /// The longest wait for a connection, for all headers of an answer, and for 16 KiB of its body or the end of it.
    pub timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 6, pause: Duration::from_secs(2), timeout: Duration::from_secs(60) }
    }
}

/// What is being done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is being loaded.
    Load,
    /// Its checksum is being computed.
    Check,
    /// It is being unpacked.
    Unpack,
}

/// News of a fetch.
#[derive(Debug)]
pub enum FetchEvent<'a> {
    /// Bytes that are done, of those in all where that is known.
    Progress {
        /// What is being done.
        step: Step,
        /// Name of the file.
        file: &'a str,
        /// Bytes that are done.
        done: u64,
        /// Bytes in all.
        total: Option<u64>,
    },
    /// A download was cut off and is resumed after a pause.
    Retry {
        /// Name of the file.
        file: &'a str,
        /// What happened.
        reason: &'a str,
        /// The pause.
        pause: Duration,
    },
}

/// Hears the news; breaking off stops the fetch at once, with everything kept that was loaded.
pub type Watch<'a> = dyn FnMut(&FetchEvent<'_>) -> ControlFlow<()> + 'a;

/// How a fetch ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The folder was there, fetched earlier from the same sources.
    AlreadyThere(PathBuf),
    /// The folder is there now.
    New(PathBuf),
}

/// Brings a set into its folder; does nothing where it has done so before.
///
/// # Errors
/// See [`FetchError`]. Whatever was loaded stays in the folder of downloads, and the next call resumes with it; the
/// folder of the set is not touched before everything is unpacked.
pub fn fetch(request: &FetchRequest, watch: &mut Watch) -> Result<Fetched, FetchError> {
    let distribution = request.distribution;
    let folder = request.root.join(distribution.folder);
    if place::was_fetched(distribution, &folder) {
        return Ok(Fetched::AlreadyThere(folder));
    }
    if let (Some(terms), false) = (distribution.terms, request.terms_accepted) {
        return Err(FetchError::Terms { set: distribution.name.to_owned(), terms: terms.to_owned() });
    }
    let files = planned_files(request)?;
    let _claim = place::Claim::take(distribution, request.root)?;
    // Another fetch may have ended between the question and the claim.
    if place::was_fetched(distribution, &folder) {
        return Ok(Fetched::AlreadyThere(folder));
    }
    let mut obtained = Vec::new();
    for file in &files {
        obtained.push(Obtained { file, path: obtain(request, file, watch)? });
    }
    let scratch = place::Scratch::create(distribution, request.root)?;
    for one in &obtained {
        let (path, name) = (&one.path, &one.file.name);
        let unpacked = unpack::unpack(distribution.name, path, name, scratch.path(), request.limits, watch);
        unpacked.map_err(|error| one.set_aside(request, error))?;
    }
    if let Some(Err(fault)) = request.inspect.map(|inspect| inspect(scratch.path())) {
        return Err(faulty(request, &obtained, fault));
    }
    scratch.publish(distribution, &folder)?;
    Ok(Fetched::New(folder))
}

/// The checked file, loaded where it has to be.
fn obtain(request: &FetchRequest, file: &PlannedFile, watch: &mut Watch) -> Result<PathBuf, FetchError> {
    let FetchRequest { patience, credential, .. } = *request;
    let (set, source) = (request.distribution.name, &file.source);
    if let Some(path) = local(request, &file.name) {
        check::check(set, &path, source, watch)?;
        return Ok(path);
    }
    let path = cached(request, source);
    if !path.is_file() {
        error::writing(set, request.downloads, std::fs::create_dir_all(request.downloads))?;
        let job = download::Job { set, source, url: &file.from, path: &path, patience, credential };
        download::download(&job, watch)?;
    }
    Ok(path)
}

/// A file that is here, whole and checked as far as anything is published to check it by.
struct Obtained<'a> {
    file: &'a PlannedFile,
    path: PathBuf,
}

impl Obtained<'_> {
    /// Where it turns out damaged and no checksum vouches for it, the next fetch should load it again; the error with the
    /// name that the file has then.
    fn set_aside(&self, request: &FetchRequest, error: FetchError) -> FetchError {
        let loaded = self.path == cached(request, &self.file.source);
        match error {
            FetchError::Archive { set, path, reason } | FetchError::Mismatch { set, path, reason }
                if loaded && self.file.checksum.is_none() =>
            {
                let inner = path.file_name().filter(|_| path != self.path).map(|name| name.to_string_lossy());
                let inner = inner.map_or_else(String::new, |name| format!("{name} in it: "));
                let reason =
                    format!("{inner}{reason}; the file is set aside, and the next attempt loads it again");
                match partial::set_aside(&set, &self.path) {
                    Ok(path) => FetchError::Mismatch { set, path, reason },
                    Err(error) => error,
                }
            }
            error => error,
        }
    }
}

/// What is wrong with a file, named by where it lies.
fn faulty(request: &FetchRequest, obtained: &[Obtained], fault: Fault) -> FetchError {
    let (set, Fault { file, reason }) = (request.distribution.name.to_owned(), fault);
    match obtained.iter().find(|one| one.file.name == file) {
        Some(one) => one.set_aside(request, FetchError::Mismatch { set, path: one.path.clone(), reason }),
        None => FetchError::Mismatch { set, path: file.into(), reason },
    }
}

/// Removes what a set's fetch left in the folder of downloads, except files that `kept` asks for, and notes of the first
/// download's checksum where none is published.
pub fn remove_downloads(request: &FetchRequest, kept: impl Fn(&Download) -> bool) {
    for source in request.distribution.sources.iter().filter(|source| !kept(source)) {
        // A file that cannot be removed costs space and nothing else.
        let _ = std::fs::remove_file(cached(request, source));
    }
}
