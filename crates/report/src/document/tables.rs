//! The files of a comparison's tables, in every format.

use std::path::{Path, PathBuf};

use crate::comparison::{Comparison, frame};
use crate::document::chapter::Chapter;
use crate::document::page::page;
use crate::error::ReportError;
use crate::export::{self, FILE_FORMATS};
use crate::files::write_atomically;

/// Suffix of the name of a comparison whose tables must not replace those over more records.
const PARTIAL: &str = "partial";

/// Renames a comparison where the tables in `folder` cover more records than it has, and adds a warning: a subset of
/// a suite that was run separately must not overwrite the files of the whole suite.
///
/// # Errors
/// When the existing files cannot be read.
pub fn keep_wider_tables(comparison: &mut Comparison, folder: &Path) -> Result<(), ReportError> {
    let path = folder.join(format!("{}-runs.csv", comparison.name()));
    if !path.is_file() {
        return Ok(());
    }
    let fault = |error: csv::Error| ReportError::Drawing { path: path.clone(), reason: error.to_string() };
    let mut reader = csv::Reader::from_path(&path).map_err(fault)?;
    let existing = reader.records().collect::<Result<Vec<_>, _>>().map_err(fault)?.len();
    let ours = comparison.records().len();
    if existing > ours {
        comparison.variant =
            Some(comparison.variant.take().map_or(PARTIAL.into(), |other| format!("{other}-{PARTIAL}")));
        comparison.origin.warnings.push(format!(
            "{} covers {existing} records and was not overwritten by this table of {ours} records; remove it to replace it.",
            path.display()
        ));
    }
    Ok(())
}

/// Writes the tables of a comparison into `folder` (created if needed): `<name>.md` and `<name>.tex` with all of
/// [`Comparison::tables`]; `<name>.csv`, the table as displayed, and `<name>-differences.csv`, `<name>-aggregates.csv`,
/// `<name>-published.csv` and `<name>-against-published.csv` likewise; `<name>-runs.csv` and `<name>-runs.parquet`, one
/// row per record; `<name>.html`, a page with all of them and the figures. Returns their paths.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_tables(comparison: &Comparison, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let tables = comparison.tables()?;
    let mut written = Vec::new();
    let mut write = |name: String, text: String| {
        let path = folder.join(name);
        write_atomically(&path, |scratch| std::fs::write(scratch, text))?;
        written.push(path);
        Ok::<(), ReportError>(())
    };
    for exporter in FILE_FORMATS {
        let extension = exporter.extension();
        if exporter.one_table_per_file() {
            for table in &tables {
                write(format!("{}.{extension}", table.name), exporter.export(table)?)?;
            }
            continue;
        }
        let texts: Vec<String> =
            tables.iter().map(|table| exporter.export(table)).collect::<Result<_, _>>()?;
        write(format!("{}.{extension}", comparison.name()), texts.join("\n"))?;
    }
    let tidy = frame::of_records(comparison.records())?;
    write(format!("{}-runs.csv", comparison.name()), frame::csv(&tidy)?)?;
    write(format!("{}.html", comparison.name()), page(&Chapter::of(comparison, tables)?))?;
    let path = folder.join(format!("{}-runs.parquet", comparison.name()));
    write_atomically(&path, |scratch| export::parquet::write(&tidy, scratch))?;
    written.push(path);
    Ok(written)
}
