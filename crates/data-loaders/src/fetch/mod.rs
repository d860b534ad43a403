//! From a set's official address, a mirror or a local archive to the folder that `layout` reads.
//!
//! [`fetch`] takes the steps in turn: `download` brings each file into a folder of downloads and goes on where it was
//! cut off, `check` compares size and checksum with the registry, `unpack` unpacks into a scratch folder and trusts no
//! archive, `place` gives that folder its name. A set is whole or not there; what was loaded is not loaded again.

mod check;
mod download;
mod error;
mod place;
mod unpack;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::FetchError;
pub use unpack::Limits;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use unpack::unpack;

use crate::registry::{Distribution, Download};

/// Where files come from, if not from the official addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mirror {
    /// A web folder that holds them under their own names; of a set without sources, the file itself.
    Web(String),
    /// A folder that holds them under their own names, or in a folder named after the set.
    Folder(PathBuf),
    /// An archive; other files of the set lie beside it.
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
}

/// How long a download waits, and how often it tries.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Failures in a row, without a byte gained between them, after which it is given up.
    pub attempts: u32,
    /// Pause after the first failure; doubled after each further one, up to a minute.
    pub pause: Duration,
    /// The longest wait for a connection, an answer or the next bytes.
    pub timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 6, pause: Duration::from_secs(2), timeout: Duration::from_secs(60) }
    }
}

/// A file of a set, as it will be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its name.
    pub name: String,
    /// Its address, or its path.
    pub from: String,
    /// Its size in bytes, where published.
    pub size: Option<u64>,
    /// Bytes that are here already.
    pub held: u64,
    /// What it is checked by: `sha256`, `md5`, or nothing.
    pub checksum: Option<&'static str>,
    source: Download,
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
    /// So many bytes of so many, where the total is known.
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
    /// A download was cut off and goes on after a pause.
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

/// The files of a set, where each comes from, and how much of it is here.
///
/// # Errors
/// [`FetchError::ByHand`] where nothing can be loaded.
pub fn planned_files(request: &FetchRequest) -> Result<Vec<PlannedFile>, FetchError> {
    let FetchRequest { distribution, mirror, .. } = request;
    let named = |name: &str| Download { url: name.to_owned(), size: None, sha256: None, md5: None };
    let sources = match (distribution.sources, mirror) {
        ([], Some(Mirror::File(path))) => vec![named(&path.to_string_lossy())],
        ([], Some(Mirror::Web(url))) => vec![named(url)],
        ([], _) => {
            let reason = distribution.manual.unwrap_or("the registry names no address").to_owned();
            return Err(FetchError::ByHand { set: distribution.name.to_owned(), reason });
        }
        (sources, _) => sources.to_vec(),
    };
    if let Some(Mirror::File(path)) = mirror
        && !sources
            .iter()
            .any(|source| Some(source.file_name()) == path.file_name().and_then(|name| name.to_str()))
    {
        let expected = sources.iter().map(Download::file_name).collect::<Vec<_>>().join(", ");
        return Err(FetchError::OtherArchive {
            set: distribution.name.to_owned(),
            path: path.clone(),
            expected,
        });
    }
    Ok(sources.into_iter().map(|source| plan(request, source)).collect())
}

fn plan(request: &FetchRequest, source: Download) -> PlannedFile {
    let name = source.file_name().to_owned();
    let (from, held) = match local(request, &name) {
        Some(path) => (path.display().to_string(), path.metadata().map_or(0, |file| file.len())),
        None => {
            let url = match request.mirror {
                Some(Mirror::Web(base)) if !request.distribution.sources.is_empty() => {
                    format!("{base}/{name}")
                }
                _ => source.url.clone(),
            };
            let held = download::held(&cached(request, &source));
            (url, held)
        }
    };
    let checksum = match (&source.sha256, &source.md5) {
        (Some(_), _) => Some("sha256"),
        (None, Some(_)) => Some("md5"),
        (None, None) => None,
    };
    PlannedFile { name, from, size: source.size, held, checksum, source }
}

/// Where a file lies on a local mirror.
fn local(request: &FetchRequest, name: &str) -> Option<PathBuf> {
    let folder = match request.mirror? {
        Mirror::Web(_) => return None,
        Mirror::File(path) => path.parent()?,
        Mirror::Folder(folder) => folder,
    };
    let nested = folder.join(request.distribution.name).join(name);
    Some(if nested.is_file() { nested } else { folder.join(name) })
}

/// Where a download goes: two addresses may end with one name, hence the beginning of a hash.
fn cached(request: &FetchRequest, source: &Download) -> PathBuf {
    let hash = blake3::hash(source.url.as_bytes()).to_hex();
    request.downloads.join(format!("{}-{}", &hash[..8], source.file_name()))
}

/// Brings a set into its folder; does nothing where it has done so before.
///
/// # Errors
/// See [`FetchError`]. Whatever was loaded stays in the folder of downloads, and the next call goes on with it; the
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
    let mut archives = Vec::new();
    for file in &files {
        archives.push((obtain(request, file, watch)?, file.name.as_str()));
    }
    let scratch = place::Scratch::create(distribution, request.root)?;
    for (path, name) in &archives {
        unpack::unpack(distribution.name, path, name, scratch.path(), request.limits, watch)?;
    }
    scratch.publish(distribution, &folder)?;
    Ok(Fetched::New(folder))
}

/// The checked file, loaded where it has to be.
fn obtain(request: &FetchRequest, file: &PlannedFile, watch: &mut Watch) -> Result<PathBuf, FetchError> {
    let (set, source) = (request.distribution.name, &file.source);
    if let Some(path) = local(request, &file.name) {
        check::check(set, &path, source, watch)?;
        return Ok(path);
    }
    let path = cached(request, source);
    if !path.is_file() {
        error::writing(set, request.downloads, std::fs::create_dir_all(request.downloads))?;
        let job = download::Job { set, source, url: &file.from, path: &path, patience: request.patience };
        download::download(&job, watch)?;
    }
    Ok(path)
}

/// Removes what a set's fetch left in the folder of downloads, except files that `kept` asks for.
pub fn remove_downloads(request: &FetchRequest, kept: impl Fn(&Download) -> bool) {
    for source in request.distribution.sources.iter().filter(|source| !kept(source)) {
        // A file that cannot be removed costs space and nothing else.
        let _ = std::fs::remove_file(cached(request, source));
    }
}
