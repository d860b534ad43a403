//! The pass that a model is in, training or reading: what the random masks of a training are functions of.
//!
//! A mask is drawn anew from (seed of the run, place in the model, step) whenever it is asked for. So a block that is
//! computed a second time for its gradient sees the same one, and so does a training that goes on from a checkpoint.

use std::cell::Cell;

use rand_chacha::ChaCha8Rng;

use crate::random;

/// Shared by all of a model that draws masks; outside of [`Pass::training`] nothing does.
#[derive(Debug, Default)]
pub struct Pass {
    seeds: Vec<u64>,
    step: Cell<Option<u64>>,
}

impl Pass {
    /// For runs of these seeds.
    pub fn new(seeds: Vec<u64>) -> Self {
        Self { seeds, step: Cell::new(None) }
    }

    /// Does `work`, in which the model trains its step `step`.
    pub fn training<T>(&self, step: u64, work: impl FnOnce() -> T) -> T {
        self.step.set(Some(step));
        let done = work();
        self.step.set(None);
        done
    }

    /// A generator for each run at a place of the model; none in a reading.
    pub(crate) fn generators(&self, place: &str) -> Option<Vec<ChaCha8Rng>> {
        let step = self.step.get()?;
        let generator = |&seed| random::generator(seed, &format!("{place} at step {step}"));
        Some(self.seeds.iter().map(generator).collect())
    }
}
