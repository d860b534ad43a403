//! AdamW over one flat buffer (Loshchilov and Hutter, arXiv 1711.05101; step as in torch's `AdamW`).
//!
//! `tch` 0.24 exposes neither a fused optimiser nor optimiser state. Here the state is two tensors and a
//! counter, and a step takes a handful of tensor operations regardless of the number of trained tensors.

use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use crate::{Error, Trainables};

/// Settings of [`AdamW`] other than the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWSettings {
    /// Decay rate of the first moment.
    pub beta1: f64,
    /// Decay rate of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// Decoupled weight decay of matrices, in units of the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// AdamW state over the buffer `[K, P]` of [`Trainables`].
#[derive(Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    first: Tensor,
    second: Tensor,
    steps: i32,
    factors: Option<Tensor>,
}

impl AdamW {
    /// A fresh state.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn new(trainables: &Trainables, settings: AdamWSettings) -> Result<Self, Error> {
        let first = trainables.values().f_zeros_like()?;
        Ok(Self { settings, second: first.f_zeros_like()?, first, steps: 0, factors: None })
    }

    /// Multiplies the learning rate of each column by its factor in `factors` `[P]`.
    #[must_use]
    pub fn with_factors(self, factors: Tensor) -> Self {
        Self { factors: Some(factors), ..self }
    }

    /// First and second moments, each `[K, P]`.
    pub fn moments(&self) -> (&Tensor, &Tensor) {
        (&self.first, &self.second)
    }

    /// Resumes after `steps` steps with these moments.
    ///
    /// # Errors
    /// If they have another shape.
    pub fn restore(&mut self, first: &Tensor, second: &Tensor, steps: u64) -> Result<(), Error> {
        no_grad(|| {
            self.first.f_copy_(first)?;
            self.second.f_copy_(second)?;
            self.steps = i32::try_from(steps).unwrap_or(i32::MAX);
            Ok(())
        })
    }

    /// One step with gradient `[K, P]` and learning rate `rate`.
    ///
    /// # Errors
    /// If the gradient has another shape.
    pub fn step(&mut self, trainables: &Trainables, gradient: &Tensor, rate: f64) -> Result<(), Error> {
        let AdamWSettings { beta1, beta2, epsilon, weight_decay } = self.settings;
        self.steps += 1;
        let correction1 = 1.0 - beta1.powi(self.steps);
        let correction2 = 1.0 - beta2.powi(self.steps);
        no_grad(|| {
            let mut values = trainables.values().shallow_clone();
            if weight_decay != 0.0 {
                let mut decayed = values.f_narrow(1, 0, trainables.decayed())?;
                let _ = match &self.factors {
                    None => decayed.f_mul_scalar_(1.0 - rate * weight_decay)?,
                    Some(factors) => {
                        let factors = factors.f_narrow(0, 0, trainables.decayed())?;
                        decayed.f_mul_(&(1.0 - factors * (rate * weight_decay)))?
                    }
                };
            }
            let _ = self.first.f_lerp_(gradient, 1.0 - beta1)?;
            let _ = self.second.f_lerp_(&gradient.f_square()?, 1.0 - beta2)?;
            let mut denominator = self.second.f_sqrt()?;
            let _ = denominator.f_div_scalar_(correction2.sqrt())?.f_add_scalar_(epsilon)?;
            let mut update = self.first.f_div(&denominator)?;
            if let Some(factors) = &self.factors {
                let _ = update.f_mul_(factors)?;
            }
            let _ = values.f_sub_(&update.f_mul_scalar_(rate / correction1)?)?;
            Ok(())
        })
    }
}
