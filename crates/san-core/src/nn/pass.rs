//! The current pass of a model, training or inference: random masks in training depend on it.
//!
//! Each time a mask is needed it is regenerated from (run seed, path in the model, step, micro-batch). A block
//! recomputed for its gradient therefore gets the same mask, and so does a training run resumed from a
//! checkpoint.

use std::cell::{Cell, RefCell};

use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use crate::random;

/// Shared by all modules of a model that sample masks; they sample only inside [`Pass::training`].
#[derive(Debug, Default)]
pub struct Pass {
    seeds: Vec<u64>,
    step: Cell<Option<u64>>,
    micro_batch: Cell<u64>,
    /// See [`Pass::set_extents`].
    extents: RefCell<Option<Vec<[i64; 2]>>>,
}

impl Pass {
    /// A pass for runs with these seeds.
    pub fn new(seeds: Vec<u64>) -> Self {
        Self { seeds, ..Self::default() }
    }

    /// The seed of each run.
    pub(crate) fn seeds(&self) -> &[u64] {
        &self.seeds
    }

    /// A pass for one of the runs.
    pub(crate) fn of_run(&self, run: usize) -> Self {
        Self::new(self.seeds.get(run).copied().into_iter().collect())
    }

    /// Runs `work` as training step `step`.
    pub fn training<T>(&self, step: u64, work: impl FnOnce() -> T) -> T {
        self.step.set(Some(step));
        self.micro_batch.set(0);
        let result = work();
        self.step.set(None);
        self.set_extents(None);
        result
    }

    /// Whether this is a training step.
    pub(crate) fn is_training(&self) -> bool {
        self.step.get().is_some()
    }

    /// Sets the index, from 0, of the current micro-batch when a step's batch is split.
    pub fn set_micro_batch(&self, index: u64) {
        self.micro_batch.set(index);
    }

    /// Sets the number of sequences and of tokens of each run, if some are padded to those of another run of the stack:
    /// a run's masks are then those that it would get alone.
    pub fn set_extents(&self, extents: Option<Vec<[i64; 2]>>) {
        *self.extents.borrow_mut() = extents;
    }

    /// The shape `[sequences, tokens, ...]` of each run's own part of `x` `[K * sequences, tokens, ...]`.
    pub(crate) fn own_shapes(&self, x: &Tensor) -> Vec<Vec<i64>> {
        let runs = self.seeds.len().max(1);
        let mut shape = x.size();
        shape[0] /= runs as i64;
        match &*self.extents.borrow() {
            Some(extents) if shape.len() == 3 => {
                extents.iter().map(|[sequences, tokens]| vec![*sequences, *tokens, shape[2]]).collect()
            }
            _ => vec![shape; runs],
        }
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
