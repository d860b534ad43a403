//! Figures, each as SVG and PNG by the same drawing code.
//!
//! `scatter`, `heat_map` and `wiring` draw on a `canvas`; `gamma` reads what the heat map shows.

mod canvas;
mod gamma;
mod heat_map;
mod labels;
mod palette;
mod scatter;
mod wiring;

use std::path::{Path, PathBuf};

use crate::comparison::{Comparison, STUDIED};
use crate::error::ReportError;
use crate::load::Stored;
use crate::record::{ADAPTER_FILE, State};
use heat_map::HeatMap;
use scatter::Scatter;
use wiring::WiringFigure;

pub use wiring::WiredSite;

/// Draws the figures of a comparison into `folder` (made if need be): `<name>-accuracy`, and
/// `<name>-gamma` for the first finished SAN cell that has its adapter file, in the table's order.
/// Returns the paths of the SVG and PNG files.
///
/// # Errors
/// When an adapter file is malformed or the folder cannot be written.
pub fn draw_figures(comparison: &Comparison, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let stem = |kind: &str| folder.join(format!("{}-{kind}", comparison.name()));
    let mut written = canvas::draw(&Scatter::of(comparison), &stem("accuracy"))?;
    let cell = comparison.records().iter().find(|stored| has_gammas(stored));
    if let Some(stored) = cell {
        written.extend(draw_gamma(stored, &stem("gamma"))?);
    }
    Ok(written)
}

/// Draws the gammas of one SAN cell, from the adapter file beside its record, as `<stem>.svg` and
/// `<stem>.png`.
///
/// # Errors
/// When the adapter file is missing or malformed, or the figures cannot be written.
pub fn draw_gamma(stored: &Stored, stem: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let gammas = gamma::read(&stored.path.with_file_name(ADAPTER_FILE))?;
    canvas::draw(&HeatMap::of(&stored.record, gammas), stem)
}

/// Draws which scaling vector reaches which projection, as `<stem>.svg` and `<stem>.png`.
///
/// # Errors
/// When the figures cannot be written.
pub fn draw_wiring(title: &str, sites: &[WiredSite], stem: &Path) -> Result<Vec<PathBuf>, ReportError> {
    canvas::draw(&WiringFigure::of(title, sites), stem)
}

fn has_gammas(stored: &Stored) -> bool {
    stored.record.method.name == STUDIED
        && stored.record.state == State::Finished
        && stored.path.with_file_name(ADAPTER_FILE).exists()
}
