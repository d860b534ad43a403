//! The formats of a table: one trait, one implementation per file.

mod csv;
mod latex;
mod markdown;
pub(crate) mod parquet;
pub mod tensorboard;
mod terminal;
pub mod trackers;

pub use csv::Csv;
pub use latex::Latex;
pub(crate) use latex::body;
pub use markdown::Markdown;
pub use terminal::Terminal;

use crate::error::ReportError;
use crate::table::Table;

/// The formats in which tables are written to files.
pub(crate) const FILE_FORMATS: [&dyn Exporter; 3] = [&Markdown, &Latex, &Csv];

/// Turns a table into text of one format.
pub trait Exporter {
    /// The format's usual file extension, without the dot.
    fn extension(&self) -> &'static str;

    /// Whether a file holds one table; otherwise all tables of a comparison are in one file.
    fn one_table_per_file(&self) -> bool {
        false
    }

    /// The table as text, ending with a newline.
    ///
    /// # Errors
    /// When the format's writer fails on the table.
    fn export(&self, table: &Table) -> Result<String, ReportError>;
}
