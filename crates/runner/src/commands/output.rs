//! What commands print. A reader that has seen enough, as in `san methods | head`, is no error; a full disk behind
//! `san methods > file` is one.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use report::text::printable;

/// Prints to standard output, the styles of a table included.
pub(crate) fn text(text: Arguments) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

/// Prints to standard output, and ends the line. What came from files is shown without control characters.
pub(crate) fn line(line: Arguments) -> Result<()> {
    text(format_args!("{}\n", printable(&line.to_string())))
}
