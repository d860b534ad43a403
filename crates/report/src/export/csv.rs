//! CSV of the table as displayed: one header line, the same rounded text as in the other formats, no notes.

use std::borrow::Cow;

use crate::error::ReportError;
use crate::export::Exporter;
use crate::table::Table;
use crate::text::csv_cell;

/// The table as displayed, for spreadsheets; the tidy CSV of the records is made by `comparison::frame`.
#[derive(Debug, Clone, Copy)]
pub struct Csv;

impl Exporter for Csv {
    fn extension(&self) -> &'static str {
        "csv"
    }

    fn one_table_per_file(&self) -> bool {
        true
    }

    fn export(&self, table: &Table) -> Result<String, ReportError> {
        let fault =
            |reason: String| ReportError::Format { what: format!("table {} as CSV", table.name), reason };
        let mut writer = csv::Writer::from_writer(Vec::new());
        let headers = table.columns.iter().map(|column| column.header.as_str());
        let headers = std::iter::once(table.corner.as_str()).chain(headers).map(csv_cell);
        writer.write_record(headers.map(Cow::into_owned)).map_err(|e| fault(e.to_string()))?;
        for row in &table.rows {
            let cells = row.cells.iter().map(|cell| cell.text.as_str());
            let cells = std::iter::once(row.label.as_str()).chain(cells).map(csv_cell);
            writer.write_record(cells.map(Cow::into_owned)).map_err(|e| fault(e.to_string()))?;
        }
        let bytes = writer.into_inner().map_err(|e| fault(e.to_string()))?;
        String::from_utf8(bytes).map_err(|e| fault(e.to_string()))
    }
}
