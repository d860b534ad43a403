//! What the program writes to standard error: progress, warnings, errors.
//!
//! Standard error may be gone: a closed terminal, a full disk it is redirected to. `eprintln!` panics then, and a
//! training would end because of a message about it.

use std::fmt::Arguments;
use std::io::Write as _;

use report::text::printable;

/// Prints a line. Control characters from files are escaped.
pub fn message(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(&line.to_string()));
}

/// Bytes as `1.5 GB`.
pub fn size_in_words(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let gigabytes = bytes as f64 / f64::from(1 << 30);
    if gigabytes >= 1.0 { format!("{gigabytes:.1} GB") } else { format!("{:.0} MB", gigabytes * 1024.0) }
}

/// A number of things, `1 run` or `2 runs`.
pub fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
