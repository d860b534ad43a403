//! One HTTP request, following redirects to the final response.
//!
//! Redirects are followed here rather than by ureq, which would read each redirect's body to the end, however long, and
//! would treat two ports of a host as one site.

use std::fmt;
use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body};
use url::Url;

use crate::fetch::download::DownloadFailure;

/// Maximum number of redirects for one URL.
const REDIRECTS: usize = 10;

/// A token for one scheme, host and port. It is never sent anywhere else, whatever that site redirects to.
#[derive(Clone)]
pub struct Credential {
    site: String,
    token: String,
}

impl Credential {
    /// A token for all URLs with the scheme, host and port of the URL `site`.
    pub fn new(site: &str, token: &str) -> Self {
        Self { site: site.to_owned(), token: token.to_owned() }
    }

    fn belongs_to(&self, place: &Url) -> bool {
        Url::parse(&self.site).is_ok_and(|site| site.origin() == place.origin())
    }
}

impl fmt::Debug for Credential {
    /// Omits the token, so that it does not end up in a log.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Credential").field("site", &self.site).finish_non_exhaustive()
    }
}

/// An HTTP client.
pub(super) struct Client<'a> {
    agent: Agent,
    timeout: Duration,
    credential: Option<&'a Credential>,
}

impl<'a> Client<'a> {
    /// `timeout` applies to connecting, to receiving all response headers, and to the next bytes of a body.
    pub(super) fn new(timeout: Duration, credential: Option<&'a Credential>) -> Self {
        let wait = Some(timeout);
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("san/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(wait)
            .timeout_connect(wait)
            .timeout_send_request(wait)
            .timeout_recv_response(wait)
            // Per read, not for the whole body: a large file takes hours.
            .timeout_per_read(wait)
            .build()
            .into();
        Self { agent, timeout, credential }
    }

    /// The response to a request with these headers, whatever its status, unless it is a redirect.
    pub(super) fn get(
        &self,
        url: &str,
        headers: &[(&str, String)],
    ) -> Result<Response<Body>, DownloadFailure> {
        let mut place = Url::parse(url).map_err(|error| DownloadFailure::Permanent(error.to_string()))?;
        for _ in 0..=REDIRECTS {
            let response = self.send(&place, headers)?;
            match target(&place, &response)? {
                Some(next) => place = next,
                None => return Ok(response),
            }
        }
        Err(DownloadFailure::Permanent(format!("the server redirects more than {REDIRECTS} times")))
    }

    fn send(&self, place: &Url, headers: &[(&str, String)]) -> Result<Response<Body>, DownloadFailure> {
        let mut request = self.agent.get(place.as_str());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(credential) = self.credential.filter(|credential| credential.belongs_to(place)) {
            request = request.header("Authorization", format!("Bearer {}", credential.token));
        }
        request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => DownloadFailure::Permanent(error.to_string()),
            ureq::Error::Timeout(_) => {
                DownloadFailure::Transient(format!("no response within {} s", self.timeout.as_secs_f64()))
            }
            error => DownloadFailure::Transient(error.to_string()),
        })
    }
}

/// The redirect target of a response; `None` if it is not a redirect.
fn target(place: &Url, response: &Response<Body>) -> Result<Option<Url>, DownloadFailure> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get("location").map(|value| String::from_utf8_lossy(value.as_bytes()));
    let location = location
        .ok_or_else(|| DownloadFailure::Permanent("the server redirects without a location".into()))?;
    follow(place, &location).map(Some).map_err(DownloadFailure::Permanent)
}

/// The URL of a redirect, if it may be followed.
fn follow(place: &Url, location: &str) -> Result<Url, String> {
    let fault = |reason: &str| format!("the server redirects to `{}`: {reason}", location.escape_debug());
    let next = place.join(location).map_err(|error| fault(&error.to_string()))?;
    match (place.scheme(), next.scheme()) {
        ("https", "http") => Err(fault("the target is not encrypted, unlike the previous URL")),
        (_, "http" | "https") => Ok(next),
        _ => Err(fault("not an http URL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_redirect_may_be_relative_but_never_downgrades_https() {
        let place = url("https://one.example/a/b?c");
        for (location, meant) in [
            ("d", "https://one.example/a/d"),
            ("/d", "https://one.example/d"),
            ("//two.example/d", "https://two.example/d"),
            ("https://two.example/d", "https://two.example/d"),
        ] {
            assert_eq!(follow(&place, location).unwrap().as_str(), meant);
        }
        assert!(follow(&place, "http://one.example/a/b").unwrap_err().contains("not encrypted"));
        assert!(follow(&url("http://one.example"), "https://one.example").is_ok());
    }

    #[test]
    fn a_credential_is_bound_to_one_scheme_host_and_port_and_is_not_printed() {
        let credential = Credential::new("https://one.example", "secret");
        assert!(credential.belongs_to(&url("https://one.example/a")));
        assert!(credential.belongs_to(&url("https://ONE.example:443/a")));
        for other in [
            "http://one.example/a",
            "https://one.example:8443/a",
            "https://one.example.evil.example/a",
            "https://cdn.one.example/a",
            "https://one.example@evil.example/a",
        ] {
            assert!(!credential.belongs_to(&url(other)), "{other}");
        }
        assert!(!format!("{credential:?}").contains("secret"));
    }
}
