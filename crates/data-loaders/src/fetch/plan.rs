//! Which files a dataset consists of, where each comes from, and where it goes.

use std::path::PathBuf;

use crate::fetch::{FetchError, FetchRequest, Mirror, hub, partial, unpack};
use crate::registry::Download;

/// A file of a dataset, with its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its name.
    pub name: String,
    /// Its URL or path.
    pub from: String,
    /// Its size in bytes, if published.
    pub size: Option<u64>,
    /// Bytes already on disk.
    pub bytes_on_disk: u64,
    /// How it is checked: `sha256`, `md5`, or nothing.
    pub checksum: Option<&'static str>,
    pub(super) source: Download,
}

impl PlannedFile {
    /// Where it is downloaded from.
    pub fn source(&self) -> &Download {
        &self.source
    }

    /// Whether it is an archive, which needs disk space besides that of its contents.
    pub fn is_archive(&self) -> bool {
        !unpack::is_copied(&self.name)
    }
}

/// The files of a dataset, with the source of each and the number of bytes already on disk. A repository of the Hugging
/// Face Hub is asked for them.
///
/// # Errors
/// [`FetchError::ByHand`] if nothing can be downloaded; [`FetchError::Download`] if the Hub does not answer.
pub fn planned_files(request: &FetchRequest) -> Result<Vec<PlannedFile>, FetchError> {
    let FetchRequest { distribution, mirror, .. } = request;
    let named = |name: &str| Download { url: name.to_owned(), ..Download::default() };
    let sources = match (distribution.sources, distribution.repository, mirror) {
        ([], Some(repository), _) => hub::files(request, repository)?,
        ([], None, Some(Mirror::File(path))) => vec![named(&path.to_string_lossy())],
        ([], None, Some(Mirror::Web(url))) => vec![named(url)],
        ([], None, _) => {
            let reason = distribution.manual.unwrap_or("the registry lists no URL").to_owned();
            return Err(FetchError::ByHand { set: distribution.name.to_owned(), reason });
        }
        (sources, ..) => sources.to_vec(),
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
    let (from, bytes_on_disk) = match local(request, &name) {
        Some(path) => (path.display().to_string(), path.metadata().map_or(0, |file| file.len())),
        None => {
            let url = match request.mirror {
                Some(Mirror::Web(base)) if !request.distribution.sources.is_empty() => {
                    format!("{base}/{name}")
                }
                _ => hub::address(request, &source.url),
            };
            let bytes_on_disk = partial::bytes_on_disk(&cached(request, &source));
            (url, bytes_on_disk)
        }
    };
    let checksum = match (&source.sha256, &source.md5) {
        (Some(_), _) => Some("sha256"),
        (None, Some(_)) => Some("md5"),
        (None, None) => None,
    };
    PlannedFile { name, from, size: source.size, bytes_on_disk, checksum, source }
}

/// Path of a file on a local mirror.
pub(super) fn local(request: &FetchRequest, name: &str) -> Option<PathBuf> {
    let folder = match request.mirror? {
        Mirror::Web(_) => return None,
        Mirror::File(path) => path.parent()?,
        Mirror::Folder(folder) => folder,
    };
    let nested = folder.join(request.distribution.name).join(name);
    Some(if nested.is_file() { nested } else { folder.join(name) })
}

/// Path of a download; two URLs may end in the same name, so it includes a hash prefix.
pub(super) fn cached(request: &FetchRequest, source: &Download) -> PathBuf {
    let hash = blake3::hash(source.url.as_bytes()).to_hex();
    request.downloads.join(format!("{}-{}", &hash[..8], source.file_name()))
}
