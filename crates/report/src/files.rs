//! Reading logs, and writing the products: whole or not at all.
//!
//! Each file is written beside its place under another name, flushed to the disk and renamed, so
//! that a reader never meets half of one and an interrupted run leaves the former one.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::comparison::Comparison;
use crate::error::ReportError;
use crate::export::{Csv, Exporter, Latex, Markdown};
use crate::{frame, published};

/// Writes the tables of a comparison into `folder` (made if need be): `<name>.md` and `<name>.tex`
/// with the table and, where they are comparable, the published rows and the differences to them; `<name>.csv`, the
/// table as seen, `<name>-published.csv` and `<name>-against-published.csv` likewise; `<name>-cells.csv` and
/// `<name>-cells.parquet`, one line a record; `<name>.html`, a page of all with the figures. Returns their paths.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_tables(comparison: &Comparison, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let mut tables = vec![comparison.table()];
    tables.extend(published::table(comparison)?);
    tables.extend(published::differences(comparison)?);
    let mut written = Vec::new();
    let mut write = |name: String, text: String| {
        let path = folder.join(name);
        write_atomically(&path, |scratch| std::fs::write(scratch, text))?;
        written.push(path);
        Ok::<(), ReportError>(())
    };
    for exporter in [&Markdown as &dyn Exporter, &Latex] {
        let texts: Vec<String> =
            tables.iter().map(|table| exporter.export(table)).collect::<Result<_, _>>()?;
        write(format!("{}.{}", comparison.name(), exporter.extension()), texts.join("\n"))?;
    }
    for table in &tables {
        write(format!("{}.{}", table.name, Csv.extension()), Csv.export(table)?)?;
    }
    let tidy = frame::of_records(comparison.records())?;
    write(format!("{}-cells.csv", comparison.name()), frame::csv(&tidy)?)?;
    let figures = crate::figure::inline_figures(comparison)?;
    write(format!("{}.html", comparison.name()), crate::page::page(comparison, &tables, &figures))?;
    let path = folder.join(format!("{}-cells.parquet", comparison.name()));
    write_atomically(&path, |scratch| crate::parquet_file::write(&tidy, scratch))?;
    written.push(path);
    Ok(written)
}

/// Ending of the name of a comparison whose tables must not take the place of wider ones.
const PARTIAL: &str = "partial";

/// Gives a comparison another name where the tables in `folder` are over more records than it has, and says so among
/// its warnings: a part of a suite that was run somewhere else, or again, must not take the files of the whole.
///
/// # Errors
/// When the files that are there cannot be read.
pub fn keep_wider_tables(comparison: &mut Comparison, folder: &Path) -> Result<(), ReportError> {
    let path = folder.join(format!("{}-cells.csv", comparison.name()));
    if !path.is_file() {
        return Ok(());
    }
    let refused = |error: csv::Error| ReportError::Drawing { path: path.clone(), reason: error.to_string() };
    let mut reader = csv::Reader::from_path(&path).map_err(refused)?;
    let there = reader.records().collect::<Result<Vec<_>, _>>().map_err(refused)?.len();
    let ours = comparison.records().len();
    if there > ours {
        comparison.variant =
            Some(comparison.variant.take().map_or(PARTIAL.into(), |other| format!("{other}-{PARTIAL}")));
        comparison.origin.warnings.push(format!(
            "{} is over {there} records and is kept: these {ours} are a part; remove it to replace it.",
            path.display()
        ));
    }
    Ok(())
}

/// The lines of a log beside a record, each a JSON value.
///
/// # Errors
/// When it cannot be read, or with the line that is malformed.
pub(crate) fn json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, ReportError> {
    let refused = |reason: String| ReportError::Drawing { path: path.into(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    lines
        .map(|(line, number)| {
            serde_json::from_str(line).map_err(|error| refused(format!("line {number}: {error}")))
        })
        .collect()
}

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
