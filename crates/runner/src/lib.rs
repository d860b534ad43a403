//! From an experiment file to records.
//!
//! [`experiment`] reads the file, [`plan`] resolves it into [`cell`]s, each named by the blake3 of
//! all that its result depends on. [`pool`] runs worker processes over the cells; a worker claims a
//! cell, [`execute`] trains and evaluates it, and its folder appears under its name when it is whole.
//! Nothing here knows how a table looks: that is the crate `report`'s.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod budget;
pub mod cell;
pub mod checkpoint;
pub mod claim;
pub mod context;
pub mod device;
pub(crate) mod display;
mod drawn_checksums;
pub mod error;
mod estimate;
pub mod execute;
pub mod experiment;
pub mod failure;
pub mod files;
mod language_protocol;
mod loaded_language;
pub mod messages;
mod picture_text;
pub mod plan;
pub mod pool;
pub mod predictions;
pub mod pretrain;
mod protocol;
pub mod provenance;
pub mod published_weights;
pub mod reader;
pub mod run_log;
pub mod search;
pub mod signals;
pub mod slurm;
pub(crate) mod team;
pub mod training;
pub mod tuning;
pub mod worker;
