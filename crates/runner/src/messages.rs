//! What the program says on standard error: progress, warnings, errors.
//!
//! Nobody may be reading: the terminal can be gone, the disk behind a redirection full. `eprintln!` panics then, and a
//! training would end because of a message about it.

use std::fmt::Arguments;
use std::io::Write as _;

use report::text::printable;

/// Prints a line. What came from files is shown without control characters.
pub fn message(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(&line.to_string()));
}
