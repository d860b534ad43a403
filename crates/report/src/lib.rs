//! From the records of finished runs to statistics, tables and figures.
//!
//! [`record`] is the interface to the runner, which writes one [`Record`] per run; this crate reads them and does not link
//! libtorch. The data flow: [`load`] finds the records, `comparison::frame` groups them, [`comparison`] reduces them with
//! [`statistics`], a [`Table`] lays them out, an [`export::Exporter`] writes it, [`figure`] draws figures. The program calls [`compare`], [`write_tables`],
//! [`draw_figures`] and [`write_event_files`].
//!
//! The tables of all finished runs of an experiment:
//!
//! ```no_run
//! use std::path::Path;
//!
//! let request = report::Request {
//!     runs: "results/runs/vtab/embedded".into(),
//!     experiment: "vtab".into(),
//!     profile: "embedded".into(),
//!     backbone: None,
//!     all_runs: false,
//!     filter: None,
//! };
//! for comparison in report::compare(&request)? {
//!     for path in report::write_tables(&comparison, Path::new("results/tables"))? {
//!         println!("{}", path.display());
//!     }
//! }
//! # Ok::<(), report::ReportError>(())
//! ```
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
pub use document::{Missing, keep_wider_tables, write_collection, write_tables};
pub use error::ReportError;
pub use export::tensorboard::write_event_files;
pub use figure::draw_figures;
pub use load::Request;
pub use load::filter::Filter;
pub use load::server_scores::{ServerScore, enter_server_score};
pub use record::Record;
pub use table::{Table, over_backbones};

/// Compares the methods of one suite and profile: one comparison for each choice of settings and each backbone
/// found, in alphabetical order of backbones.
///
/// # Errors
/// When the runs cannot be read, contain nothing that was requested, or contain a run twice.
pub fn compare(request: &Request) -> Result<Vec<Comparison>, ReportError> {
    let mut all = Vec::new();
    for selection in load::select(request)? {
        all.extend(comparison::comparisons(selection.records, selection.plan.as_ref())?);
    }
    comparison::disambiguate_names(&mut all);
    Ok(all)
}
