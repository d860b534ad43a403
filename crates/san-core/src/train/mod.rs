//! Training apart from the model: the trained tensors in one buffer and their average, the optimiser, clipping,
//! learning-rate schedules.

pub mod adamw;
pub mod clipping;
pub mod compensated;
pub mod ema;
pub mod gradients;
pub mod schedule;
pub mod trainables;
