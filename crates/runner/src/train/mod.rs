//! Training: the loop, its checkpoints and logs, and the signals that stop it.

pub mod checkpoint;
pub mod log;
pub mod signals;
pub mod trainer;
