//! What a document shows of one comparison.

use crate::comparison::Comparison;
use crate::error::ReportError;
use crate::figure::{InlineFigure, inline_figures};
use crate::table::Table;
use crate::text::path_component;

/// Tables and figures of one comparison.
pub(crate) struct Chapter {
    /// Suite, experiment, profile and backbone.
    pub(crate) title: String,
    /// One word for labels.
    pub(crate) name: String,
    /// Its tables.
    pub(crate) tables: Vec<Table>,
    /// Its figures.
    pub(crate) figures: Vec<InlineFigure>,
}

impl Chapter {
    /// With its tables, which the caller may need as well.
    pub(crate) fn of(comparison: &Comparison, tables: Vec<Table>) -> Result<Self, ReportError> {
        Ok(Self {
            title: comparison.title(),
            // Experiments of one suite have comparisons of the same name.
            name: format!("{}-{}", path_component(comparison.experiment()), comparison.name()),
            tables,
            figures: inline_figures(comparison)?,
        })
    }
}
