//! From the records of finished runs to statistics, tables and figures.
//!
//! [`record`] is the contract with the runner: it writes one [`Record`] a run, this crate reads
//! them. Nothing here knows libtorch. The way of a number: [`load`] finds the records, `comparison::frame`
//! groups them, [`comparison`] reduces them with [`statistics`], a [`Table`] lays them out, an
//! [`export::Exporter`] writes it, [`figure`] draws. The program calls [`compare`], [`write_tables`],
//! [`draw_figures`] and [`write_event_files`].
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod comparison;
mod document;
pub mod error;
pub mod export;
pub mod figure;
mod files;
pub mod load;
pub mod record;
pub mod statistics;
pub mod table;
pub mod text;

pub use comparison::{Comparison, STUDIED};
pub use document::{keep_wider_tables, write_tables};
pub use error::ReportError;
pub use export::tensorboard::write_event_files;
pub use figure::draw_figures;
pub use load::Request;
pub use record::Record;
pub use table::Table;

/// Compares the methods of one suite and profile: one comparison for each choice of settings and each backbone that is
/// found, backbones in alphabetical order.
///
/// # Errors
/// When the runs cannot be read, hold nothing that was asked for, or contain one run twice.
pub fn compare(request: &Request) -> Result<Vec<Comparison>, ReportError> {
    let mut all = Vec::new();
    for selection in load::select(request)? {
        all.extend(comparison::comparisons(selection.records, selection.plan.as_ref())?);
    }
    comparison::name_apart(&mut all);
    Ok(all)
}
