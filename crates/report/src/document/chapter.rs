//! What a document shows of one comparison.

use crate::comparison::Comparison;
use crate::error::ReportError;
use crate::figure::{InlineFigure, inline_figures};
use crate::table::Table;

/// Tables and figures of one comparison.
pub(crate) struct Chapter {
    /// Suite, profile and backbone.
    pub(crate) title: String,
    /// One word for labels.
    pub(crate) name: String,
    /// Its tables.
    pub(crate) tables: Vec<Table>,
    /// Its figures.
    pub(crate) figures: Vec<InlineFigure>,
}

impl Chapter {
    pub(crate) fn of(comparison: &Comparison) -> Result<Self, ReportError> {
        Ok(Self {
            title: comparison.title(),
            name: comparison.name(),
            tables: comparison.tables()?,
            figures: inline_figures(comparison)?,
        })
    }
}
