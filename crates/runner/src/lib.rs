//! From an experiment file to records.
//!
//! [`config`] reads the file, [`plan`] resolves it into [`Run`](tasks::Run)s, each named by the blake3 of everything
//! that its result depends on. [`workers`] runs worker processes over the runs; a worker locks a run, [`tasks`] trains
//! and evaluates it, and its folder appears under its name once it is complete. This crate does not know what a table
//! looks like: that is the crate `report`.

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
