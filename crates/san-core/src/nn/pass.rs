//! The pass that a model is in, training or reading: what the random masks of a training are functions of.
//!
//! A mask is drawn anew from (seed of the run, place in the model, step, part of the step) whenever it is asked for. So a
//! block that is computed a second time for its gradient sees the same one, and so does a training that goes on from a
//! checkpoint.

use std::cell::Cell;

use rand_chacha::ChaCha8Rng;

use crate::random;

/// Shared by all of a model that draws masks; outside of [`Pass::training`] nothing does.
#[derive(Debug, Default)]
pub struct Pass {
    seeds: Vec<u64>,
    step: Cell<Option<u64>>,
    part: Cell<u64>,
}

impl Pass {
    /// For runs of these seeds.
    pub fn new(seeds: Vec<u64>) -> Self {
        Self { seeds, step: Cell::new(None), part: Cell::new(0) }
    }

    /// Does `work`, in which the model trains its step `step`.
    pub fn training<T>(&self, step: u64, work: impl FnOnce() -> T) -> T {
        self.step.set(Some(step));
        self.part.set(0);
        let done = work();
        self.step.set(None);
        done
    }

    /// Says which part of its batch, from 0, a step goes on with, where it is computed in several.
    pub fn goes_on_with(&self, part: u64) {
        self.part.set(part);
    }

    /// A generator for each run at a place of the model; none in a reading.
    pub(crate) fn generators(&self, place: &str) -> Option<Vec<ChaCha8Rng>> {
        let step = self.step.get()?;
        let part = match self.part.get() {
            0 => String::new(),
            part => format!(", part {part}"),
        };
        let generator = |&seed| random::generator(seed, &format!("{place} at step {step}{part}"));
        Some(self.seeds.iter().map(generator).collect())
    }
}
