//! Tests that cannot run on this machine say so: each prints why and adds a line to the file that `SAN_SKIPPED` names,
//! which `just test` counts. Included by the test files that need it.

use std::io::Write as _;

/// Reports that the current test, or a part of it, is skipped.
pub(crate) fn report(reason: impl std::fmt::Display) {
    let thread = std::thread::current();
    let line = format!("{}: {reason}\n", thread.name().unwrap_or("a test"));
    eprint!("skipped: {line}");
    if let Some(path) = std::env::var_os("SAN_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        // One write a line, so that tests in other processes do not interleave.
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("SAN_SKIPPED can be written");
    }
}
