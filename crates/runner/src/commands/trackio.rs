//! Sends training curves to a Trackio server, by its `bulk_log` interface.

use anyhow::{Context as _, Result, bail};
use report::export::trackers::TrackedRun;
use serde_json::json;
use std::time::Duration;

/// Entries in one request.
const ENTRIES: usize = 1_000;

/// Environment variable with the server's write token, as Trackio itself reads it.
const TOKEN: &str = "TRACKIO_WRITE_TOKEN";

/// Sends the curves of runs to the server at `address`; returns the number of entries.
pub(super) fn send(address: &str, runs: &[TrackedRun]) -> Result<usize> {
    let url = format!("{}/api/bulk_log", address.trim_end_matches('/'));
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60)));
    let agent: ureq::Agent = config.http_status_as_error(false).max_redirects(0).build().into();
    let entries: Vec<_> = runs.iter().flat_map(TrackedRun::trackio_entries).collect();
    for part in entries.chunks(ENTRIES) {
        let mut request = agent.post(&url).header("Content-Type", "application/json");
        if let Ok(token) = std::env::var(TOKEN) {
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
