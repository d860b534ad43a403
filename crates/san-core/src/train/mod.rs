//! Training apart from the model: the trained tensors in one buffer, the optimiser, learning-rate schedules.

pub mod adamw;
pub mod schedule;
pub mod trainables;
