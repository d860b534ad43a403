//! An exponential moving average of the trained tensors, as timm's `ModelEmaV2` and `ModelEmaV3` keep it.

use tch::{Tensor, no_grad};

use crate::{Error, Trainables};

/// The averages of the trained tensors of K runs.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    /// `[K, P]`.
    values: Tensor,
}

impl Ema {
    /// Starts at the current values.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn new(trainables: &Trainables, decay: f64) -> Result<Self, Error> {
        Ok(Self { decay, values: copied(trainables.values())? })
    }

    /// After a step: average = decay * average + (1 - decay) * values.
    ///
    /// # Errors
    /// If the trained tensors have another shape.
    pub fn update(&mut self, trainables: &Trainables) -> Result<(), Error> {
        no_grad(|| {
            let _ = self.values.f_lerp_(trainables.values(), 1.0 - self.decay)?;
            Ok(())
        })
    }

    /// The averages, `[K, P]`.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Continues from these averages.
    ///
    /// # Errors
    /// If they have another shape.
    pub fn restore(&mut self, values: &Tensor) -> Result<(), Error> {
        no_grad(|| Ok(self.values.f_copy_(values)?))
    }

    /// Exchanges the trained tensors and their averages, for an evaluation; a second call undoes it exactly.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn swap(&mut self, trainables: &Trainables) -> Result<(), Error> {
        no_grad(|| {
            let raw = copied(trainables.values())?;
            trainables.values().shallow_clone().f_copy_(&self.values)?;
            Ok(self.values.f_copy_(&raw)?)
        })
    }
}

fn copied(values: &Tensor) -> Result<Tensor, Error> {
    let mut copy = values.f_zeros_like()?;
    no_grad(|| copy.f_copy_(values))?;
    Ok(copy)
}
