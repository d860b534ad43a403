//! From an experiment file to records.
//!
//! [`config`] reads the file, [`plan`] resolves it into [`Run`](tasks::Run)s, each named by the blake3 of everything
//! that its result depends on. [`workers`] runs worker processes over the runs; a worker locks a run, [`tasks`] trains
//! and evaluates it, and its folder appears under its name once it is complete. This crate does not know what a table
//! looks like: that is the crate `report`.
//!
//! An experiment, as `san plan` reads it:
//!
//! ```
//! use runner::config::experiment::Experiment;
//!
//! let experiment = Experiment::parse(
//!     b"
//! name: example
//! suite: vtab
//! profiles:
//!   embedded:
//!     data: {synthetic: {train: 24, val: 12, test: 30}}
//!     sets: [svhn, dtd]
//!     backbones: [vit_micro]
//!     methods:
//!       - {method: lora, learning_rate: [1.0e-3, 1.0e-2]}
//!       - {method: san, learning_rate: [1.0e-3, 1.0e-2]}
//!     seeds: [0, 1, 2]
//!     protocol:
//!       epochs: 5
//!       batch_size: 16
//!       classification:
//!         image: {image_size: 32, resize: plain, filter: bilinear, normalisation: half}
//! ",
//! )?;
//! let profile = &experiment.profiles["embedded"];
//! assert_eq!(profile.sets.len() * profile.methods.len() * profile.seeds.len(), 12);
//! # Ok::<(), String>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod config;
pub mod cost;
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
