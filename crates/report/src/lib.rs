//! From the records of finished runs to statistics, tables and figures.
//!
//! [`record`] is the contract with the runner: it writes one [`Record`] a cell, this crate reads
//! them. Nothing here knows libtorch.

pub mod record;

pub use record::Record;
