//! One file over HTTP: into `<file>.part` first, gone on where it was cut off, checked, and only then under its name.
//!
//! A download goes on by a range request with `If-Range`, so that a file that has changed on the server is loaded anew
//! (RFC 9110, sections 13.1.5 and 14.2). Without a validator it goes on only where a checksum will tell.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

use crate::fetch::error::writing;
use crate::fetch::{FetchError, FetchEvent, Patience, Step, Watch, check};
use crate::registry::Download;

/// Bytes read at once.
const CHUNK: usize = 1 << 18;
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A file to be loaded.
pub(super) struct Job<'a> {
    pub(super) set: &'a str,
    pub(super) source: &'a Download,
    /// The address, official or a mirror's.
    pub(super) url: &'a str,
    /// Where it goes.
    pub(super) path: &'a Path,
    pub(super) patience: Patience,
}

/// What is known of a partial file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    url: String,
    /// A strong entity tag, or a date of modification.
    validator: Option<String>,
}

/// Why an attempt failed.
enum Trouble {
    /// Another attempt may do better.
    Passing(String),
    /// None will.
    Final(FetchError),
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        Self::Final(error)
    }
}

/// Bytes of a download that are here, whole or in part.
pub(super) fn held(path: &Path) -> u64 {
    let size = |path: &Path| path.metadata().ok().map(|file| file.len());
    size(path).or_else(|| size(&part_of(path))).unwrap_or(0)
}

fn part_of(path: &Path) -> PathBuf {
    with_ending(path, ".part")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Loads a file and checks it.
pub(super) fn download(job: &Job, watch: &mut Watch) -> Result<(), FetchError> {
    let load = Load {
        job,
        agent: agent(job.patience),
        part: part_of(job.path),
        note: with_ending(job.path, ".origin"),
    };
    let (mut failures, mut farthest) = (0, load.held());
    while let Err(trouble) = load.attempt(watch) {
        let reason = match trouble {
            Trouble::Passing(reason) => reason,
            Trouble::Final(error) => return Err(error),
        };
        failures = if load.held() > farthest { 1 } else { failures + 1 };
        farthest = farthest.max(load.held());
        if failures >= job.patience.attempts {
            return Err(load.fault(reason));
        }
        let pause = job.patience.pause.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE);
        let (file, reason) = (job.source.file_name(), reason.as_str());
        if watch(&FetchEvent::Retry { file, reason, pause }) == ControlFlow::Break(()) {
            return Err(load.stopped());
        }
        std::thread::sleep(pause);
    }
    load.accept(watch)
}

fn agent(patience: Patience) -> Agent {
    let wait = Some(patience.timeout);
    Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("san/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(wait)
        .timeout_recv_response(wait)
        // Of each read, not of the whole: a large file takes hours, a silent server should not.
        .timeout_per_read(wait)
        .build()
        .into()
}

struct Load<'a> {
    job: &'a Job<'a>,
    agent: Agent,
    part: PathBuf,
    note: PathBuf,
}

impl Load<'_> {
    fn fault(&self, reason: String) -> FetchError {
        FetchError::Download { set: self.job.set.to_owned(), url: self.job.url.to_owned(), reason }
    }

    fn stopped(&self) -> FetchError {
        FetchError::Stopped { set: self.job.set.to_owned() }
    }

    fn held(&self) -> u64 {
        self.part.metadata().map_or(0, |file| file.len())
    }

    /// The validator of what is here; none where it cannot be gone on with.
    fn resumable(&self) -> Option<Option<String>> {
        let origin: Origin = serde_json::from_slice(&fs::read(&self.note).ok()?).ok()?;
        let validator = origin.validator.filter(|_| origin.url == self.job.url);
        let checksum = self.job.source.sha256.is_some() || self.job.source.md5.is_some();
        (validator.is_some() || checksum).then_some(validator)
    }

    /// One request and its answer, from where the last one ended.
    fn attempt(&self, watch: &mut Watch) -> Result<(), Trouble> {
        let mut request = self.agent.get(self.job.url);
        let held = self.held();
        if let Some(validator) = Some(held).filter(|held| *held > 0).and_then(|_| self.resumable()) {
            request = request.header("Range", format!("bytes={held}-"));
            if let Some(validator) = validator {
                request = request.header("If-Range", validator);
            }
        }
        let response = request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Trouble::Final(self.fault(error.to_string())),
            error => Trouble::Passing(error.to_string()),
        })?;
        let status = response.status();
        match status {
            StatusCode::OK => self.receive(response, 0, watch),
            StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
                Some((Some(start), _)) if start == held => self.receive(response, held, watch),
                _ => self.restart("the server sent another part than was asked for"),
            },
            StatusCode::RANGE_NOT_SATISFIABLE => match content_range(response.headers()) {
                Some((_, Some(total))) if total == held => Ok(()),
                _ => self.restart("the server has no more of it than is here"),
            },
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(Trouble::Passing(format!("the server answers {status}")))
            }
            _ if status.is_server_error() => Err(Trouble::Passing(format!("the server answers {status}"))),
            _ => Err(Trouble::Final(self.fault(format!("the server answers {status}")))),
        }
    }

    /// Forgets what is here.
    fn restart(&self, reason: &str) -> Result<(), Trouble> {
        writing(self.job.set, &self.part, fs::remove_file(&self.part))?;
        Err(Trouble::Passing(reason.to_owned()))
    }

    /// Writes the body behind the first `start` bytes.
    fn receive(&self, response: Response<Body>, start: u64, watch: &mut Watch) -> Result<(), Trouble> {
        let Job { set, source, .. } = *self.job;
        let total = response.body().content_length().map(|length| start + length);
        if is_page(response.headers()) && !source.file_name().ends_with(".html") {
            return Err(Trouble::Final(self.fault("the server sends a web page, not the file".into())));
        }
        if let (Some(found), Some(expected)) = (total, source.size)
            && found != expected
        {
            let reason = format!("the server's file has {found} bytes, not the {expected} of the registry");
            return Err(Trouble::Final(self.fault(reason)));
        }
        let origin = Origin { url: self.job.url.to_owned(), validator: validator(response.headers()) };
        let text = writing(set, &self.note, serde_json::to_vec(&origin).map_err(Into::into))?;
        writing(set, &self.note, fs::write(&self.note, text))?;
        let mut options = OpenOptions::new();
        options.create(true).write(true).append(start > 0).truncate(start == 0);
        let mut file = writing(set, &self.part, options.open(&self.part))?;
        self.copy(response, &mut file, start, total, watch)
    }

    fn copy(
        &self,
        response: Response<Body>,
        file: &mut File,
        start: u64,
        total: Option<u64>,
        watch: &mut Watch,
    ) -> Result<(), Trouble> {
        let (mut body, mut chunk, mut done) = (response.into_body().into_reader(), vec![0; CHUNK], start);
        loop {
            let count = match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => return Err(Trouble::Passing(format!("cut off after {done} bytes: {error}"))),
            };
            writing(self.job.set, &self.part, file.write_all(&chunk[..count]))?;
            done += count as u64;
            let file = self.job.source.file_name();
            if watch(&FetchEvent::Progress {
                step: Step::Load,
                file,
                done,
                total: total.or(self.job.source.size),
            }) == ControlFlow::Break(())
            {
                return Err(Trouble::Final(self.stopped()));
            }
        }
        if let Some(total) = total.filter(|total| *total != done) {
            return Err(Trouble::Passing(format!("cut off after {done} of {total} bytes")));
        }
        Ok(writing(self.job.set, &self.part, file.sync_all())?)
    }

    /// Checks the whole file and gives it its name; a wrong one is set aside, so that the next attempt starts anew.
    fn accept(&self, watch: &mut Watch) -> Result<(), FetchError> {
        let Job { set, source, path, .. } = *self.job;
        match check::check(set, &self.part, source, watch) {
            Err(FetchError::Mismatch { reason, .. }) => {
                let rejected = with_ending(path, ".rejected");
                writing(set, &rejected, fs::rename(&self.part, &rejected))?;
                let reason = format!("{reason}; it is set aside, the next attempt starts anew");
                return Err(FetchError::Mismatch { set: set.to_owned(), path: rejected, reason });
            }
            checked => checked?,
        }
        writing(set, path, fs::rename(&self.part, path))?;
        // The note served its purpose; one that stays is overwritten by the next download.
        let _ = fs::remove_file(&self.note);
        Ok(())
    }
}

/// First byte and total of a `Content-Range`.
fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) =
        headers.get("content-range")?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-').and_then(|(start, _)| start.trim().parse().ok());
    Some((start, total.trim().parse().ok()))
}

/// What `If-Range` may carry: an entity tag that is not weak, else the date of modification.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    text("etag").filter(|tag| !tag.starts_with("W/")).or_else(|| text("last-modified"))
}

fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/html")
}
