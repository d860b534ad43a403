//! Parses a server's response headers and checks that they match the request (RFC 9110, sections 14 and 15.3.7).
//!
//! No header is trusted if another header, the registry or an earlier response contradicts it.

use ureq::Body;
use ureq::http::{HeaderMap, Response, StatusCode};

use crate::fetch::download::DownloadFailure;
use crate::registry::Download;

/// The request.
pub(super) struct SentRequest<'a> {
    pub(super) source: &'a Download,
    /// The first byte, for a range request.
    pub(super) start: Option<u64>,
    /// Validator of the response that the bytes before `start` came from.
    pub(super) validator: Option<&'a str>,
    /// Total size according to that response.
    pub(super) total: Option<u64>,
}

/// The response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ServerReply {
    /// The file from some byte to its end.
    Body {
        start: u64,
        /// Size of the whole file in bytes.
        total: u64,
        /// A value for `If-Range`.
        validator: Option<String>,
    },
    /// The whole file is already here.
    Complete,
    /// A response that does not match what is here, with the reason.
    Mismatch(String),
}

impl SentRequest<'_> {
    /// Parses status and headers.
    pub(super) fn reply(&self, response: &Response<Body>) -> Result<ServerReply, DownloadFailure> {
        let headers = response.headers();
        let status = response.status();
        match status {
            StatusCode::OK => {
                self.check_kind(headers)?;
                self.whole(headers, response.body().content_length())
            }
            StatusCode::PARTIAL_CONTENT => {
                self.check_kind(headers)?;
                self.part(headers)
            }
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(self.nothing_more(headers)),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(DownloadFailure::Transient(format!("the server responded with {status}")))
            }
            _ if status.is_server_error() => {
                Err(DownloadFailure::Transient(format!("the server responded with {status}")))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(DownloadFailure::Permanent(format!(
                "the server responded with {status}; on the Hugging Face Hub, accept the terms on the page of the \
                 repository, and set HF_TOKEN to a token that may read it"
            ))),
            _ => Err(DownloadFailure::Permanent(format!("the server responded with {status}"))),
        }
    }

    /// Checks that the body is the file itself, not an HTML page or a compressed encoding.
    fn check_kind(&self, headers: &HeaderMap) -> Result<(), DownloadFailure> {
        let name = self.source.file_name();
        let text = |header: &str| text(headers, header).unwrap_or_default().trim().to_ascii_lowercase();
        if text("content-type").starts_with("text/html") && !name.ends_with(".html") {
            return Err(DownloadFailure::Permanent("the server sent a web page instead of the file".into()));
        }
        match text("content-encoding").as_str() {
            "" | "identity" => Ok(()),
            // Apache can be configured to send this for files that are published compressed.
            "gzip" | "x-gzip" if name.ends_with(".gz") || name.ends_with(".tgz") => Ok(()),
            encoding => {
                let encoding = encoding.escape_debug();
                Err(DownloadFailure::Permanent(format!(
                    "the server sent it with the content encoding `{encoding}`"
                )))
            }
        }
    }

    fn whole(&self, headers: &HeaderMap, length: Option<u64>) -> Result<ServerReply, DownloadFailure> {
        // A zero-length response has no body, so its length is unknown.
        if text(headers, "content-length") == Some("0") {
            return Err(DownloadFailure::Permanent("the server's file is empty".into()));
        }
        match self.check_size(length)?.or(self.source.size) {
            Some(total) => Ok(ServerReply::Body { start: 0, total, validator: validator(headers) }),
            // Neither a truncated nor an endless body could be detected.
            None => Err(DownloadFailure::Permanent(
                "neither the server nor the registry states the size of the file".into(),
            )),
        }
    }

    fn part(&self, headers: &HeaderMap) -> Result<ServerReply, DownloadFailure> {
        let Some(start) = self.start else {
            return Err(DownloadFailure::Permanent(
                "the server sent a part of the file that was not requested".into(),
            ));
        };
        let range = ContentRange::of(headers);
        if range.as_ref().and_then(|range| range.start) != Some(start) {
            return Ok(ServerReply::Mismatch("the server sent a different part than was requested".into()));
        }
        let validator = validator(headers);
        if let (Some(now), Some(before)) = (validator.as_deref(), self.validator)
            && now != before
        {
            return Ok(ServerReply::Mismatch(format!(
                "the file has changed on the server, from {before} to {now}"
            )));
        }
        let stated = self.check_size(range.and_then(|range| range.total))?;
        match (stated, self.total.or(self.source.size)) {
            (Some(now), Some(before)) if now != before => Ok(ServerReply::Mismatch(format!(
                "the file has changed on the server: {now} bytes instead of {before}"
            ))),
            (Some(total), _) | (None, Some(total)) => Ok(ServerReply::Body {
                start,
                total,
                validator: validator.or(self.validator.map(str::to_owned)),
            }),
            (None, None) => {
                Ok(ServerReply::Mismatch("the server does not state the size of the file".into()))
            }
        }
    }

    /// Status 416: expected if the last byte had already arrived.
    fn nothing_more(&self, headers: &HeaderMap) -> ServerReply {
        let stated = ContentRange::of(headers).and_then(|range| range.total);
        // Without a known size, only a checksum can tell.
        let checked = self.source.sha256.is_some() || self.source.md5.is_some();
        let before = self.total.or(self.source.size).or(stated.filter(|_| checked));
        if self.start.is_some() && stated == self.start && stated == before {
            ServerReply::Complete
        } else {
            ServerReply::Mismatch("the server has no more data than was already downloaded".into())
        }
    }

    /// The stated size, if the registry does not contradict it.
    fn check_size(&self, stated: Option<u64>) -> Result<Option<u64>, DownloadFailure> {
        match (stated, self.source.size) {
            (Some(found), Some(expected)) if found != expected => Err(DownloadFailure::Permanent(format!(
                "the server's file has {found} bytes, but the registry lists {expected}"
            ))),
            _ => Ok(stated),
        }
    }
}

/// First byte and total size of a `Content-Range`.
struct ContentRange {
    start: Option<u64>,
    total: Option<u64>,
}

impl ContentRange {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let (range, total) = text(headers, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
        let start = range.split_once('-').and_then(|(start, _)| start.trim().parse().ok());
        Some(Self { start, total: total.trim().parse().ok() })
    }
}

/// A value for `If-Range`: a strong entity tag, otherwise the modification date.
fn validator(headers: &HeaderMap) -> Option<String> {
    let strong = text(headers, "etag").filter(|tag| !tag.starts_with("W/"));
    strong.or_else(|| text(headers, "last-modified")).map(str::to_owned)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
