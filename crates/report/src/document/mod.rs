//! Documents: the files of the tables, and one page of tables and figures.

mod page;
mod tables;

pub use tables::{keep_wider_tables, write_tables};
