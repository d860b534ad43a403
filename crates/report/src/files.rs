//! Writing a product whole or not at all.
//!
//! A file is written next to its place under another name, flushed to the disk and renamed, so that a reader never meets
//! half of one and an interrupted run leaves the former one.

use std::fs::File;
use std::path::Path;

use crate::error::ReportError;

/// Lets `fill` write a scratch file (with the ending of `path`, in the same folder, which is made if
/// need be), then puts it in the place of `path`.
pub(crate) fn write_atomically<E: Into<std::io::Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), ReportError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let ending = path.extension().map_or(String::new(), |ending| format!(".{}", ending.to_string_lossy()));
    let attempt = || -> Result<(), std::io::Error> {
        std::fs::create_dir_all(folder)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".unfinished-").suffix(&ending);
        #[cfg(unix)] // a scratch file would be its owner's alone; what is shared obeys the umask
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let scratch = builder.tempfile_in(folder)?;
        fill(scratch.path()).map_err(Into::into)?;
        scratch.as_file().sync_all()?;
        scratch.persist(path).map_err(|failed| failed.error)?;
        File::open(folder)?.sync_all()
    };
    attempt().map_err(|source| ReportError::Write { path: path.into(), source })
}
