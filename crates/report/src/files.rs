//! Atomic writing of output files.
//!
//! A file is written under a temporary name in the same folder, flushed to disk and renamed, so that a reader never
//! sees a partial file and an interrupted run leaves the previous one.

use std::fs::File;
use std::path::Path;

use crate::error::ReportError;

/// Lets `fill` write a temporary file (with the extension of `path`, in the same folder, which is created if needed),
/// then renames it to `path`.
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
        #[cfg(unix)] // temporary files are readable by their owner only; the result follows the umask
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let scratch = builder.tempfile_in(folder)?;
        fill(scratch.path()).map_err(Into::into)?;
        scratch.as_file().sync_all()?;
        scratch.persist(path).map_err(|failed| failed.error)?;
        File::open(folder)?.sync_all()
    };
    attempt().map_err(|source| ReportError::Write { path: path.into(), source })
}
