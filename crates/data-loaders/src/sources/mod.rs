//! What lies in a set's folder, whatever its form: layouts that benchmarks share, what authors distribute, and containers.

pub(crate) mod formats;
pub(crate) mod layout;
pub(crate) mod manifest;
pub(crate) mod original;
pub(crate) mod parts;
pub(crate) mod sample;
