//! From an experiment file to records.
//!
//! [`config`] reads the file, [`plan`] resolves it into [`plan::run`]s, each named by the blake3 of
//! all that its result depends on. [`workers`] runs worker processes over the runs; a worker claims a
//! run, [`tasks`] trains and evaluates it, and its folder appears under its name when it is whole.
//! Nothing here knows how a table looks: that is the crate `report`'s.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod config;
pub mod error;
pub mod io;
pub mod messages;
pub mod models;
pub mod plan;
pub mod pretrain;
pub mod resources;
pub mod slurm;
pub mod store;
pub mod tasks;
pub mod train;
pub mod workers;
