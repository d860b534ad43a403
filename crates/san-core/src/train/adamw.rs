//! AdamW over one flat buffer (Loshchilov and Hutter, arXiv 1711.05101; step as in torch's `AdamW`).
//!
//! `tch` 0.24 exposes neither a fused optimiser nor optimiser state. Here the state is two tensors and a
//! counter, and a step takes a handful of tensor operations regardless of the number of trained tensors.

use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use crate::spec::trainable::Group;
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
    segments: Vec<Segment>,
    /// The rate of the fully trained modules over that of the other tensors, `[K, 1]`.
    module_factors: Option<Tensor>,
}

/// Neighbouring columns of the buffer that are treated alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    start: i64,
    length: i64,
    decays: bool,
    modules_to_save: bool,
}

impl AdamW {
    /// A fresh state.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn new(trainables: &Trainables, settings: AdamWSettings) -> Result<Self, Error> {
        let first = trainables.values().f_zeros_like()?;
        let second = first.f_zeros_like()?;
        let segments = segments(trainables, settings.weight_decay != 0.0, false);
        Ok(Self { settings, first, second, steps: 0, segments, module_factors: None })
    }

    /// Multiplies the learning rate of the fully trained modules by a factor for each run.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn with_module_factors(self, trainables: &Trainables, factors: &[f64]) -> Result<Self, Error> {
        let values = trainables.values();
        let factors =
            Tensor::f_from_slice(factors)?.f_to_kind(values.kind())?.f_to_device(values.device())?;
        Ok(Self {
            segments: segments(trainables, self.settings.weight_decay != 0.0, true),
            module_factors: Some(factors.f_unsqueeze(1)?),
            ..self
        })
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

    /// One step with gradient `[K, P]` and a learning rate for each run, `rates` `[K, 1]`, both on the device of the
    /// trained tensors.
    ///
    /// # Errors
    /// If the gradient has another shape.
    pub fn step(&mut self, trainables: &Trainables, gradient: &Tensor, rates: &Tensor) -> Result<(), Error> {
        self.steps += 1;
        no_grad(|| {
            self.segments.iter().try_for_each(|&segment| self.update(trainables, gradient, rates, segment))
        })
    }

    fn update(
        &self,
        trainables: &Trainables,
        gradient: &Tensor,
        rates: &Tensor,
        segment: Segment,
    ) -> Result<(), Error> {
        let AdamWSettings { beta1, beta2, epsilon, weight_decay } = self.settings;
        let correction1 = 1.0 - beta1.powi(self.steps);
        let correction2 = 1.0 - beta2.powi(self.steps);
        let columns = |tensor: &Tensor| tensor.f_narrow(1, segment.start, segment.length);
        let rates = match &self.module_factors {
            Some(factors) if segment.modules_to_save => rates.f_mul(factors)?,
            _ => rates.shallow_clone(),
        };
        let (mut values, gradient) = (columns(trainables.values())?, columns(gradient)?);
        let (mut first, mut second) = (columns(&self.first)?, columns(&self.second)?);
        if segment.decays && weight_decay != 0.0 {
            let kept = rates.f_mul_scalar(-weight_decay)?.f_add_scalar(1.0)?;
            let _ = values.f_mul_(&kept)?;
        }
        let _ = first.f_lerp_(&gradient, 1.0 - beta1)?;
        let _ = second.f_lerp_(&gradient.f_square()?, 1.0 - beta2)?;
        let mut denominator = second.f_sqrt()?;
        let _ = denominator.f_div_scalar_(correction2.sqrt())?.f_add_scalar_(epsilon)?;
        let mut update = first.f_div(&denominator)?;
        let _ = values.f_sub_(&update.f_mul_(&rates.f_div_scalar(correction1)?)?)?;
        Ok(())
    }
}

/// The columns of a buffer in as few segments as possible, given which differences matter.
fn segments(trainables: &Trainables, decay: bool, modules: bool) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut start = 0;
    for (spec, _) in trainables.iter() {
        let (decays, length) = (decay && spec.decays(), spec.count());
        let modules_to_save = modules && spec.group == Group::ModulesToSave;
        match segments.last_mut() {
            Some(last) if (last.decays, last.modules_to_save) == (decays, modules_to_save) => {
                last.length += length;
            }
            _ => segments.push(Segment { start, length, decays, modules_to_save }),
        }
        start += length;
    }
    segments
}
