//! The current pass of a model, training or inference: random masks in training depend on it.
//!
//! Each time a mask is needed it is regenerated from (run seed, path in the model, step, micro-batch). A block
//! recomputed for its gradient therefore gets the same mask, and so does a training run resumed from a
//! checkpoint.

use std::cell::Cell;

use rand_chacha::ChaCha8Rng;

use crate::random;

/// Shared by all modules of a model that sample masks; they sample only inside [`Pass::training`].
#[derive(Debug, Default)]
pub struct Pass {
    seeds: Vec<u64>,
    step: Cell<Option<u64>>,
    micro_batch: Cell<u64>,
}

impl Pass {
    /// A pass for runs with these seeds.
    pub fn new(seeds: Vec<u64>) -> Self {
        Self { seeds, step: Cell::new(None), micro_batch: Cell::new(0) }
    }

    /// Runs `work` as training step `step`.
    pub fn training<T>(&self, step: u64, work: impl FnOnce() -> T) -> T {
        self.step.set(Some(step));
        self.micro_batch.set(0);
        let result = work();
        self.step.set(None);
        result
    }

    /// Sets the index, from 0, of the current micro-batch when a step's batch is split.
    pub fn set_micro_batch(&self, index: u64) {
        self.micro_batch.set(index);
    }

    /// One generator per run for a path in the model; `None` outside training.
    pub(crate) fn generators(&self, path: &str) -> Option<Vec<ChaCha8Rng>> {
        let step = self.step.get()?;
        let part = match self.micro_batch.get() {
            0 => String::new(),
            part => format!(", part {part}"),
        };
        let generator = |&seed| random::generator(seed, &format!("{path} at step {step}{part}"));
        Some(self.seeds.iter().map(generator).collect())
    }
}
