//! What a server's answer says that it holds, and whether that is what was asked for (RFC 9110, sections 14 and 15.3.7).
//!
//! No header is taken on trust that another one, the registry or an earlier answer contradicts.

use ureq::Body;
use ureq::http::{HeaderMap, Response, StatusCode};

use crate::fetch::download::Trouble;
use crate::registry::Download;

/// What was asked for.
pub(super) struct Asked<'a> {
    pub(super) source: &'a Download,
    /// The first byte, where not all of the file was asked for.
    pub(super) start: Option<u64>,
    /// Of the answer that the bytes before it are from.
    pub(super) validator: Option<&'a str>,
    /// As that answer had it.
    pub(super) total: Option<u64>,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The file from a byte to its end.
    Body {
        start: u64,
        /// Bytes of the whole file.
        total: u64,
        /// What `If-Range` may carry.
        validator: Option<String>,
    },
    /// All of it is here already.
    Whole,
    /// Something that does not fit what is here; the reason.
    Misfit(String),
}

impl Asked<'_> {
    /// Reads status and headers.
    pub(super) fn answer(&self, response: &Response<Body>) -> Result<Answer, Trouble> {
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
                Err(Trouble::Passing(format!("the server answers {status}")))
            }
            _ if status.is_server_error() => Err(Trouble::Passing(format!("the server answers {status}"))),
            _ => Err(Trouble::Final(format!("the server answers {status}"))),
        }
    }

    /// Whether the body is the file itself, not a page about it nor a compressed form.
    fn check_kind(&self, headers: &HeaderMap) -> Result<(), Trouble> {
        let name = self.source.file_name();
        let text = |header: &str| text(headers, header).unwrap_or_default().trim().to_ascii_lowercase();
        if text("content-type").starts_with("text/html") && !name.ends_with(".html") {
            return Err(Trouble::Final("the server sends a web page, not the file".into()));
        }
        match text("content-encoding").as_str() {
            "" | "identity" => Ok(()),
            // Apache can be told to say so of a file that is compressed as it is published.
            "gzip" | "x-gzip" if name.ends_with(".gz") || name.ends_with(".tgz") => Ok(()),
            encoding => {
                let encoding = encoding.escape_debug();
                Err(Trouble::Final(format!("the server sends it in the encoding `{encoding}`, not as it is")))
            }
        }
    }

    fn whole(&self, headers: &HeaderMap, length: Option<u64>) -> Result<Answer, Trouble> {
        // An answer of no bytes has no body, and so no length.
        if text(headers, "content-length") == Some("0") {
            return Err(Trouble::Final("the server's file is empty".into()));
        }
        match self.agreed(length)?.or(self.source.size) {
            Some(total) => Ok(Answer::Body { start: 0, total, validator: validator(headers) }),
            // Neither a cut nor a body without end could be noticed.
            None => Err(Trouble::Final(
                "the server does not state the size of the file, and nor does the registry".into(),
            )),
        }
    }

    fn part(&self, headers: &HeaderMap) -> Result<Answer, Trouble> {
        let Some(start) = self.start else {
            return Err(Trouble::Final(
                "the server sends a part of the file, which was not asked for".into(),
            ));
        };
        let range = ContentRange::of(headers);
        if range.as_ref().and_then(|range| range.start) != Some(start) {
            return Ok(Answer::Misfit("the server sent another part than was asked for".into()));
        }
        let validator = validator(headers);
        if let (Some(now), Some(before)) = (validator.as_deref(), self.validator)
            && now != before
        {
            return Ok(Answer::Misfit(format!("the file has changed on the server, from {before} to {now}")));
        }
        let stated = self.agreed(range.and_then(|range| range.total))?;
        match (stated, self.total.or(self.source.size)) {
            (Some(now), Some(before)) if now != before => Ok(Answer::Misfit(format!(
                "the file has changed on the server: {now} bytes, not the {before} of before"
            ))),
            (Some(total), _) | (None, Some(total)) => {
                Ok(Answer::Body { start, total, validator: validator.or(self.validator.map(str::to_owned)) })
            }
            (None, None) => Ok(Answer::Misfit("the server does not state the size of the file".into())),
        }
    }

    /// Status 416: right where the last byte had come before.
    fn nothing_more(&self, headers: &HeaderMap) -> Answer {
        let stated = ContentRange::of(headers).and_then(|range| range.total);
        // Without a size from before only a checksum will tell.
        let checked = self.source.sha256.is_some() || self.source.md5.is_some();
        let before = self.total.or(self.source.size).or(stated.filter(|_| checked));
        if self.start.is_some() && stated == self.start && stated == before {
            Answer::Whole
        } else {
            Answer::Misfit("the server has no more of it than is here".into())
        }
    }

    /// A size that the registry does not contradict.
    fn agreed(&self, stated: Option<u64>) -> Result<Option<u64>, Trouble> {
        match (stated, self.source.size) {
            (Some(found), Some(expected)) if found != expected => Err(Trouble::Final(format!(
                "the server's file has {found} bytes, not the {expected} of the registry"
            ))),
            _ => Ok(stated),
        }
    }
}

/// First byte and total of a `Content-Range`.
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

/// What `If-Range` may carry: an entity tag that is not weak, else the date of modification.
fn validator(headers: &HeaderMap) -> Option<String> {
    let strong = text(headers, "etag").filter(|tag| !tag.starts_with("W/"));
    strong.or_else(|| text(headers, "last-modified")).map(str::to_owned)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
