//! Readers of a dataset's folder: benchmark layouts, original distributions, and container formats.

pub(crate) mod formats;
pub(crate) mod layout;
pub(crate) mod manifest;
pub(crate) mod original;
pub(crate) mod parts;
pub(crate) mod sample;
