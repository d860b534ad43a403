//! Which files of a repository on the Hugging Face Hub belong to a dataset or a model: the Hub lists them, with sizes
//! and, for large ones, checksums.
//!
//! The list is that of `HfApi.repo_info(files_metadata=True)` of huggingface_hub. It names the commit of the revision,
//! and the files are downloaded from that commit, so that they belong together.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::fetch::download::DownloadFailure;
use crate::fetch::request::Client;
use crate::fetch::{FetchError, FetchRequest, Mirror};
use crate::io::files::stays_inside;
use crate::registry::{Download, HubRepository};

/// The Hugging Face Hub.
pub const HUB: &str = "https://huggingface.co";
/// Maximum size of a list in bytes.
const MAX_LIST: u64 = 1 << 26;
/// The folder that tables are put into.
const TABLES: &str = "data";

/// A list of files.
#[derive(Deserialize)]
struct Listing {
    /// The commit.
    sha: String,
    siblings: Vec<Sibling>,
}

/// A file of a repository.
#[derive(Deserialize)]
struct Sibling {
    /// Its path.
    rfilename: String,
    size: Option<u64>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: String,
}

/// An address on the Hub that the request may name another server for.
pub(super) fn address(request: &FetchRequest, url: &str) -> String {
    match url.strip_prefix(HUB) {
        Some(path) if path.starts_with('/') => format!("{}{path}", request.hub.trim_end_matches('/')),
        _ => url.to_owned(),
    }
}

/// The files that belong to a dataset or a model, from the Hub or from a folder with a copy of the repository.
pub(super) fn files(request: &FetchRequest, repository: &HubRepository) -> Result<Vec<Download>, FetchError> {
    let HubRepository { id: name, revision } = repository;
    let address = match request.mirror {
        Some(Mirror::Folder(folder)) => folder.display().to_string(),
        _ => {
            let kind = if repository.is_dataset() { "" } else { "models/" };
            address(request, &format!("{HUB}/api/{kind}{name}/revision/{revision}?blobs=true"))
        }
    };
    let fault = |reason: String| FetchError::Download {
        set: request.distribution.name.to_owned(),
        url: address.clone(),
        reason,
    };
    let listing = match request.mirror {
        Some(Mirror::Folder(folder)) => copies(&folder.join(request.distribution.name))
            .or_else(|| copies(folder))
            .ok_or_else(|| fault("the folder cannot be read".into()))?,
        Some(_) => return Err(fault("only a folder can take the place of the Hub".into())),
        None => listed(request, &address).map_err(fault)?,
    };
    let wanted = if repository.is_dataset() { tables(listing.siblings) } else { weights(listing.siblings) };
    let (mut names, mut downloads) = (HashSet::new(), Vec::new());
    for Sibling { rfilename, size, lfs } in wanted {
        let into = repository.is_dataset().then(|| TABLES.to_owned());
        let url = format!("{HUB}/{name}/resolve/{}/{rfilename}", listing.sha);
        let sha256 = lfs.map(|file| file.sha256);
        let download = Download { url, name: None, into, size, sha256, md5: None };
        if !stays_inside(Path::new(&rfilename)) || !names.insert(download.file_name().to_owned()) {
            return Err(fault(format!("it lists the file `{}`", rfilename.escape_debug())));
        }
        download.check().map_err(fault)?;
        downloads.push(download);
    }
    if downloads.is_empty() {
        let what = if repository.is_dataset() { "Parquet tables" } else { "weights" };
        return Err(fault(format!("it has no {what}")));
    }
    Ok(downloads)
}

/// The list of the Hub.
fn listed(request: &FetchRequest, address: &str) -> Result<Listing, String> {
    let client = Client::new(request.patience.timeout, request.credential);
    let mut text = String::new();
    let response = client.get(address, &[]).map_err(|failure| match failure {
        DownloadFailure::Transient(reason) | DownloadFailure::Permanent(reason) => reason,
        DownloadFailure::Local(error) => error.to_string(),
    })?;
    if !response.status().is_success() {
        return Err(format!("the Hub responded with {}", response.status()));
    }
    let mut body = response.into_body().into_reader().take(MAX_LIST);
    body.read_to_string(&mut text).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("the Hub's list of files cannot be read: {error}"))
}

/// The files of a folder, as the list of a repository.
fn copies(folder: &Path) -> Option<Listing> {
    let entries = std::fs::read_dir(folder).ok()?.flatten().filter(|entry| entry.path().is_file());
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let siblings = names.into_iter().map(|rfilename| Sibling { rfilename, size: None, lfs: None });
    Some(Listing { sha: "main".into(), siblings: siblings.collect() })
}

/// All Parquet tables, in whatever folder.
fn tables(siblings: Vec<Sibling>) -> Vec<Sibling> {
    siblings.into_iter().filter(|file| file.rfilename.ends_with(".parquet")).collect()
}

/// Configuration, vocabulary and weights at the top of the repository: safetensors or, if there are none, pickles.
fn weights(siblings: Vec<Sibling>) -> Vec<Sibling> {
    let is = |file: &Sibling, endings: &[&str]| endings.iter().any(|ending| file.rfilename.ends_with(ending));
    let top: Vec<Sibling> = siblings.into_iter().filter(|file| !file.rfilename.contains('/')).collect();
    let safe = top.iter().any(|file| is(file, &[".safetensors"]));
    let wanted = |file: &Sibling| match safe {
        _ if is(file, &[".bin.index.json"]) => !safe,
        _ if is(file, &[".json", ".txt", "tokenizer.model"]) => true,
        true => is(file, &[".safetensors"]),
        false => file.rfilename.starts_with("pytorch_model") && is(file, &[".bin"]),
    };
    let weighs = |file: &Sibling| is(file, &[".safetensors", ".bin"]);
    let wanted: Vec<Sibling> = top.into_iter().filter(wanted).collect();
    if wanted.iter().any(weighs) { wanted } else { Vec::new() }
}
