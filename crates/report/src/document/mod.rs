//! Documents: the files of the tables, one page of tables and figures, and one document of all of them.

mod chapter;
mod page;
mod regenerate;
mod tables;

pub use regenerate::{Missing, write_collection};
pub use tables::{keep_wider_tables, write_tables};
