//! Image datasets: one interface to real and synthetic ones, prefetched batches, and verification of every file.

mod image_cache;
pub(crate) mod image_set;
pub(crate) mod inspect;
pub(crate) mod loader;
pub(crate) mod verify;
