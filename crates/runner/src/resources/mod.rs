//! What a process opens once and uses for many runs: data sets, models, features.

pub mod context;
mod synthetic_checksums;
