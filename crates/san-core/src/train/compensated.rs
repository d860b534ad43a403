//! AdamW in 8 bytes per parameter, for training every weight of a large model: values, their compensation and both
//! moments are stored in bf16, and a step computes in f32 a few million elements at a time (`torch_ops`).
//!
//! A gradient is used as soon as it is known, tensor by tensor, so that it can be freed: there is no buffer of gradients.
//! The compensation is Kahan's (arXiv 2010.06192). It and the moments are rounded stochastically, by a generator that is a
//! function of (seed, tensor, step), so that a training resumes bit for bit.

use rand::Rng;
use tch::{Tensor, no_grad};
use torch_ops::{CompensatedNumbers, CompensatedTensors};

use crate::spec::trainable::Group;
use crate::train::adamw::AdamWSettings;
use crate::{Error, Trainables, random};

/// AdamW state over the buffer `[1, P]` in bf16 of a single run.
#[derive(Debug)]
pub struct CompensatedAdamW {
    settings: AdamWSettings,
    /// What rounding has removed from the values, `[1, P]`.
    compensation: Tensor,
    first: Tensor,
    second: Tensor,
    /// The column of each trained tensor.
    starts: Vec<i64>,
    /// The rate of the fully trained modules over that of the other tensors.
    module_factor: f64,
}

/// Numbers of a step that are the same for every tensor; all tensors are scalars on the device.
#[derive(Debug)]
pub struct UpdateNumbers<'a> {
    /// The number of this step, from 1.
    pub step: u64,
    /// Learning rate, f32.
    pub rate: &'a Tensor,
    /// Whether the run has been stopped, a boolean: nothing changes then.
    pub stopped: &'a Tensor,
    /// Multiplies the gradient, f32.
    pub factor: Option<&'a Tensor>,
}

impl CompensatedAdamW {
    /// A fresh state for a single run whose tensors are in bf16.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn new(trainables: &Trainables, settings: AdamWSettings) -> Result<Self, Error> {
        let zeros = || trainables.values().f_zeros_like();
        let lengths = trainables.iter().map(|(spec, _)| spec.count());
        let starts = lengths.scan(0, |end, length| Some(std::mem::replace(end, *end + length))).collect();
        let (compensation, first, second) = (zeros()?, zeros()?, zeros()?);
        Ok(Self { settings, compensation, first, second, starts, module_factor: 1.0 })
    }

    /// Multiplies the learning rate of the fully trained modules.
    #[must_use]
    pub fn with_module_factor(self, module_factor: f64) -> Self {
        Self { module_factor, ..self }
    }

    /// The state `[1, P]` by name: both moments, and the compensation.
    pub fn state(&self) -> [(&'static str, &Tensor); 3] {
        [("first", &self.first), ("second", &self.second), ("compensation", &self.compensation)]
    }

    /// Continues from the tensors of [`Self::state`], in that order.
    ///
    /// # Errors
    /// If they have another shape.
    pub fn restore(&mut self, tensors: [&Tensor; 3]) -> Result<(), Error> {
        let own = [&mut self.first, &mut self.second, &mut self.compensation];
        no_grad(|| own.into_iter().zip(tensors).try_for_each(|(own, saved)| Ok(own.f_copy_(saved)?)))
    }

    /// The step of one trained tensor, given by its position in the buffer.
    ///
    /// # Errors
    /// If the gradient has another shape.
    pub fn update(
        &self,
        trainables: &Trainables,
        position: usize,
        gradient: &Tensor,
        numbers: &UpdateNumbers<'_>,
    ) -> Result<(), Error> {
        let Some((spec, _)) = trainables.iter().nth(position) else { return Ok(()) };
        let AdamWSettings { beta1, beta2, epsilon, weight_decay } = self.settings;
        let UpdateNumbers { step, rate, stopped, factor } = *numbers;
        let rate = match spec.group {
            Group::ModulesToSave => rate.f_mul_scalar(self.module_factor)?,
            _ => rate.shallow_clone(),
        };
        let seed = trainables.pass().seeds().first().copied().unwrap_or(0);
        let columns = |tensor: &Tensor| tensor.f_get(0)?.f_narrow(0, self.starts[position], spec.count());
        torch_ops::compensated_adamw(
            CompensatedTensors {
                values: &columns(trainables.values())?,
                compensation: &columns(&self.compensation)?,
                gradient,
                first: &columns(&self.first)?,
                second: &columns(&self.second)?,
            },
            CompensatedNumbers {
                step,
                rate: &rate,
                skipped: stopped,
                factor,
                betas: [beta1, beta2],
                weight_decay: if spec.decays() { weight_decay } else { 0.0 },
                epsilon,
                seed: random::generator(seed, &format!("rounding of {} at step {step}", spec.name))
                    .next_u64(),
            },
        )?;
        Ok(())
    }
}
