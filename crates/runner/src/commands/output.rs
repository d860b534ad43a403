//! What commands print. A reader that closes the pipe early, as in `san methods | head`, is not an error; a full disk
//! in `san methods > file` is one.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use report::text::printable;

/// Prints to standard output, including the styles of a table.
pub(crate) fn text(text: Arguments) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

/// Prints a line to standard output. Control characters from files are escaped.
pub(crate) fn line(line: Arguments) -> Result<()> {
    text(format_args!("{}\n", printable(&line.to_string())))
}
