//! Sends training curves to a Trackio server, by its `bulk_log` interface.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use report::export::trackers::TrackedRun;
use serde_json::json;

/// Entries in one request.
const ENTRIES: usize = 1_000;

/// Environment variable with the server's write token, as Trackio itself reads it.
const TOKEN: &str = "TRACKIO_WRITE_TOKEN";

/// Sends the curves of runs to the server at `address`; returns the number of entries.
pub(super) fn send(address: &str, runs: &[TrackedRun]) -> Result<usize> {
    let (server, token) = server_and_token(address, std::env::var(TOKEN).ok());
    let url = format!("{server}/api/bulk_log");
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60)));
    let agent: ureq::Agent = config.http_status_as_error(false).max_redirects(0).build().into();
    let entries: Vec<_> = runs.iter().flat_map(TrackedRun::trackio_entries).collect();
    for part in entries.chunks(ENTRIES) {
        let mut request = agent.post(&url).header("Content-Type", "application/json");
        if let Some(token) = &token {
            request = request.header("X-Trackio-Write-Token", token);
        }
        let body = json!({"logs": part, "hf_token": null}).to_string();
        let mut reply = request.send(body).with_context(|| format!("cannot reach {url}"))?;
        let status = reply.status();
        if !status.is_success() {
            let reason = reply.body_mut().with_config().limit(4_096).read_to_string().unwrap_or_default();
            bail!("{url} answered {status}: {reason} (the token of the server goes into {TOKEN})");
        }
    }
    Ok(entries.len())
}

/// The address without its query, and the token: Trackio prints `http://127.0.0.1:7860?write_token=...`, which is what a
/// user pastes. Otherwise the token is that of the environment. No message names it.
fn server_and_token(address: &str, variable: Option<String>) -> (&str, Option<String>) {
    let (server, query) = address.split_once('?').unwrap_or((address, ""));
    let pasted = query.split('&').find_map(|part| part.strip_prefix("write_token=")).map(str::to_owned);
    (server.trim_end_matches('/'), pasted.or(variable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_trackio_prints_can_be_pasted() {
        let pasted = server_and_token("http://127.0.0.1:7860?write_token=abc", Some("other".into()));
        assert_eq!(pasted, ("http://127.0.0.1:7860", Some("abc".into())));
        let plain = server_and_token("http://127.0.0.1:7860/", Some("other".into()));
        assert_eq!(plain, ("http://127.0.0.1:7860", Some("other".into())));
    }
}
