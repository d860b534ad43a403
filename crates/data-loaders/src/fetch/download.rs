//! Downloads one file over HTTP: into `<file>.part`, resumed after an interruption, checked, and only then renamed.
//!
//! A download is resumed by a range request with `If-Range`, so that a file that has changed on the server is
//! downloaded again from the beginning (RFC 9110, sections 13.1.5 and 14.2). Without a validator it is resumed only if
//! there is a checksum.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use ureq::Body;

use crate::fetch::partial::{Origin, Partial, note_of};
use crate::fetch::reply::{SentRequest, ServerReply};
use crate::fetch::request::Client;
use crate::fetch::{Credential, FetchError, FetchEvent, Patience, Step, Watch, check};
use crate::registry::Download;

/// Bytes per read.
const CHUNK: usize = 1 << 18;
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Minimum number of bytes that must arrive within the timeout; fewer counts as a stall.
const MIN_PROGRESS: u64 = 1 << 14;

/// A file to download.
pub(super) struct Job<'a> {
    pub(super) set: &'a str,
    pub(super) source: &'a Download,
    /// The URL, official or a mirror's.
    pub(super) url: &'a str,
    /// The destination.
    pub(super) path: &'a Path,
    pub(super) patience: Patience,
    pub(super) credential: Option<&'a Credential>,
}

/// Why an attempt failed.
pub(super) enum DownloadFailure {
    /// Retrying may help.
    Transient(String),
    /// Retrying will not help.
    Permanent(String),
    /// A local error, not the server's fault.
    Local(FetchError),
}

impl From<FetchError> for DownloadFailure {
    fn from(error: FetchError) -> Self {
        Self::Local(error)
    }
}

/// Downloads a file and checks it; a file that is already there is only checked.
pub(super) fn download(job: &Job, watch: &mut Watch) -> Result<(), FetchError> {
    let client = Client::new(job.patience.timeout, job.credential);
    let mut downloader = Downloader { job, client, part: Partial::take(job.set, job.path)? };
    // It may have been damaged since it was downloaded, and what is in an archive may not show it.
    let result = if job.path.is_file() {
        downloader.accept_earlier(watch)
    } else {
        downloader.download_with_retries(watch)
    };
    downloader.part.leave();
    result
}

struct Downloader<'a> {
    job: &'a Job<'a>,
    client: Client<'a>,
    part: Partial<'a>,
}

impl Downloader<'_> {
    fn fault(&self, reason: String) -> FetchError {
        FetchError::Download { set: self.job.set.to_owned(), url: self.job.url.to_owned(), reason }
    }

    fn stopped(&self) -> FetchError {
        FetchError::Stopped { set: self.job.set.to_owned() }
    }

    /// Retries until the file is complete or the attempts are used up.
    fn download_with_retries(&mut self, watch: &mut Watch) -> Result<(), FetchError> {
        let patience = self.job.patience;
        let (mut failures, mut farthest) = (0, self.part.bytes_on_disk()?);
        while let Err(failure) = self.attempt(watch) {
            let reason = match failure {
                DownloadFailure::Transient(reason) => reason,
                DownloadFailure::Permanent(reason) => return Err(self.fault(reason)),
                DownloadFailure::Local(error) => return Err(error),
            };
            let on_disk = self.part.bytes_on_disk()?;
            failures = if on_disk >= farthest + MIN_PROGRESS { 1 } else { failures + 1 };
            farthest = farthest.max(on_disk);
            if failures >= patience.attempts {
                return Err(self.fault(reason));
            }
            let pause = patience.pause.saturating_mul(1 << (failures - 1).min(16)).min(MAX_PAUSE);
            let (file, reason) = (self.job.source.file_name(), reason.as_str());
            if watch(&FetchEvent::Retry { file, reason, pause }) == ControlFlow::Break(()) {
                return Err(self.stopped());
            }
            std::thread::sleep(pause);
        }
        self.accept(watch)
    }

    /// The first byte to request, if the download can be resumed.
    fn resumable(&self) -> Result<Option<u64>, FetchError> {
        let Job { source, url, .. } = self.job;
        let same = self.part.origin.url == *url && self.part.origin.validator.is_some();
        let checked = source.sha256.is_some() || source.md5.is_some();
        Ok(Some(self.part.bytes_on_disk()?).filter(|on_disk| *on_disk > 0 && (same || checked)))
    }

    /// One request and its response, starting where the last one ended.
    fn attempt(&mut self, watch: &mut Watch) -> Result<(), DownloadFailure> {
        let start = self.resumable()?;
        let origin = Some(&self.part.origin).filter(|origin| start.is_some() && origin.url == self.job.url);
        let validator = origin.and_then(|origin| origin.validator.as_deref());
        // A body compressed in transit is not the published file and has a different size.
        let mut headers = vec![("Accept-Encoding", "identity".to_owned())];
        headers.extend(start.map(|start| ("Range", format!("bytes={start}-"))));
        headers.extend(validator.map(|validator| ("If-Range", validator.to_owned())));
        let response = self.client.get(self.job.url, &headers)?;
        let total = origin.and_then(|origin| origin.total);
        let sent = SentRequest { source: self.job.source, start, validator, total };
        match sent.reply(&response)? {
            ServerReply::Complete => Ok(()),
            ServerReply::Body { start, total, validator } => {
                let (url, sha256) = (self.job.url.to_owned(), self.part.origin.sha256.take());
                self.part.begin(start, Origin { url, validator, total: Some(total), sha256 })?;
                self.receive(response.into_body(), start, total, watch)
            }
            ServerReply::Mismatch(reason) => {
                self.part.clear()?;
                Err(DownloadFailure::Transient(reason))
            }
        }
    }

    /// Writes the body after the first `start` bytes, and never more than `total` bytes in all.
    fn receive(
        &mut self,
        body: Body,
        start: u64,
        total: u64,
        watch: &mut Watch,
    ) -> Result<(), DownloadFailure> {
        let (chunks, mut done) = (chunks(body), start);
        let mut rate = TransferRate::new(self.job.patience.timeout);
        loop {
            match chunks.recv_timeout(rate.left()) {
                Ok(Ok(chunk)) => {
                    done += chunk.len() as u64;
                    if done > total {
                        self.part.clear()?;
                        let reason = format!("the server sent more than the {total} bytes of the file");
                        return Err(DownloadFailure::Permanent(reason));
                    }
                    self.part.append(&chunk)?;
                    rate.received += chunk.len() as u64;
                    self.report_progress(done, total, watch)?;
                }
                Ok(Err(error)) => {
                    return Err(DownloadFailure::Transient(format!(
                        "cut off after {done} of {total} bytes: {error}"
                    )));
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(slow) = rate.stalled() {
                return Err(DownloadFailure::Transient(format!(
                    "stalled after {done} of {total} bytes: {slow}"
                )));
            }
        }
        if done == total {
            Ok(())
        } else {
            Err(DownloadFailure::Transient(format!("cut off after {done} of {total} bytes")))
        }
    }

    fn report_progress(&self, done: u64, total: u64, watch: &mut Watch) -> Result<(), FetchError> {
        let file = self.job.source.file_name();
        let event = FetchEvent::Progress { step: Step::Load, file, done, total: Some(total) };
        if watch(&event) == ControlFlow::Break(()) { Err(self.stopped()) } else { Ok(()) }
    }

    /// Checks the whole file and renames it; an invalid one is set aside, so that the next attempt starts over.
    fn accept(&self, watch: &mut Watch) -> Result<(), FetchError> {
        let sha256 = self.checked_or_rejected(&self.part.path, watch)?;
        self.part.publish(sha256)
    }

    /// Checks a file that an earlier fetch has downloaded.
    fn accept_earlier(&self, watch: &mut Watch) -> Result<(), FetchError> {
        self.checked_or_rejected(self.job.path, watch).map(drop)
    }

    /// As [`Downloader::checked`]; sets an invalid file aside.
    fn checked_or_rejected(&self, path: &Path, watch: &mut Watch) -> Result<Option<String>, FetchError> {
        self.checked(path, watch).map_err(|error| match error {
            FetchError::Mismatch { set, reason, .. } => match self.part.reject(path) {
                Ok(path) => {
                    let reason =
                        format!("{reason}; the file was set aside, and the next attempt starts over");
                    FetchError::Mismatch { set, path, reason }
                }
                Err(error) => error,
            },
            error => error,
        })
    }

    /// Compares a file with the registry or, if that has no checksum, with the first download. Returns the SHA-256 to
    /// expect from later downloads.
    fn checked(&self, path: &Path, watch: &mut Watch) -> Result<Option<String>, FetchError> {
        let Job { set, source, path: target, .. } = *self.job;
        check::check(set, path, source, watch)?;
        if source.sha256.is_some() || source.md5.is_some() {
            return Ok(None);
        }
        let found = check::sha256(set, path, watch)?;
        if let Some(first) = self.part.origin.sha256.as_ref().filter(|first| **first != found) {
            let note = note_of(target);
            let reason = format!(
                "its sha256 is {found}, but that of the first download was {first}; if a new version was published, \
                 remove {}",
                note.display()
            );
            return Err(FetchError::Mismatch { set: set.to_owned(), path: path.to_owned(), reason });
        }
        Ok(Some(found))
    }
}

/// The body in chunks, read in a separate thread: a server can block a read indefinitely with bytes that do not belong
/// to the body. The thread ends when its connection closes.
fn chunks(body: Body) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, chunks) = sync_channel(2);
    let mut reader = body.into_reader();
    std::thread::spawn(move || {
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = reader.read(&mut chunk);
            let last = !matches!(read, Ok(1..));
            let read = read.map(|count| {
                chunk.truncate(count);
                chunk
            });
            // The receiver is gone once the download has ended.
            if matches!(&read, Ok(chunk) if chunk.is_empty()) || sender.send(read).is_err() || last {
                break;
            }
        }
    });
    chunks
}

/// Checks the transfer rate: a minimum number of bytes per time window.
struct TransferRate {
    window: Duration,
    since: Instant,
    received: u64,
}

impl TransferRate {
    fn new(window: Duration) -> Self {
        Self { window, since: Instant::now(), received: 0 }
    }

    fn left(&self) -> Duration {
        self.window.saturating_sub(self.since.elapsed())
    }

    /// At the end of a window, describes the stall, if any.
    fn stalled(&mut self) -> Option<String> {
        if !self.left().is_zero() {
            return None;
        }
        let received = self.received;
        *self = Self::new(self.window);
        (received < MIN_PROGRESS).then(|| format!("{received} bytes in {} s", self.window.as_secs_f64()))
    }
}
