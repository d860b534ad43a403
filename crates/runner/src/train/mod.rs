//! Training: the loop, its checkpoints and logs, and the signals that stop it.

pub mod checkpoint;
mod kept;
pub mod log;
mod optimiser;
mod rates;
pub mod signals;
mod streamed;
pub mod task;
pub mod trainer;
