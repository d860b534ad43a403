//! AdamW over one flat buffer (Loshchilov and Hutter, arXiv 1711.05101; step as in torch's `AdamW`).
//!
//! The state is two tensors and a counter. A step is one fused operation (`torch-ops`) for each run and each range of
//! columns with the same weight decay, regardless of the number of trained tensors.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};
use torch_ops::{AdamWNumbers, AdamWTensors};

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
    /// Steps done, a scalar in f32 on the device.
    steps: Tensor,
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
        let steps = Tensor::f_zeros([], (Kind::Float, first.device()))?;
        Ok(Self { settings, first, second, steps, segments, module_factors: None })
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
            #[allow(clippy::cast_precision_loss)]
            let _ = self.steps.f_fill_(steps as f64)?;
            Ok(())
        })
    }

    /// One step with gradient `[K, P]` and a learning rate for each run, `rates` `[K, 1]`, both on the device of the
    /// trained tensors. A run whose entry in `stopped` `[K, 1]` is true does not change, whatever its gradient.
    ///
    /// # Errors
    /// If the gradient has another shape.
    pub fn step(
        &mut self,
        trainables: &Trainables,
        gradient: &Tensor,
        rates: &Tensor,
        stopped: Option<&Tensor>,
    ) -> Result<(), Error> {
        if trainables.values().numel() == 0 {
            return Ok(());
        }
        no_grad(|| {
            let _ = self.steps.f_add_scalar_(1.0)?;
            let skipped = match stopped {
                Some(stopped) => stopped.f_to_kind(Kind::Float)?,
                None => rates.f_zeros_like()?.f_to_kind(Kind::Float)?,
            };
            for run in 0..trainables.stack() {
                let row = |tensor: &Tensor| tensor.f_get(run);
                let (values, gradient) = (row(trainables.values())?, row(gradient)?);
                let (first, second) = (row(&self.first)?, row(&self.second)?);
                let (rate, skipped) = (row(rates)?.f_squeeze()?, row(&skipped)?.f_squeeze()?);
                for &segment in &self.segments {
                    self.update([&values, &gradient, &first, &second], run, &rate, &skipped, segment)?;
                }
            }
            Ok(())
        })
    }

    fn update(
        &self,
        tensors: [&Tensor; 4],
        run: i64,
        rate: &Tensor,
        skipped: &Tensor,
        segment: Segment,
    ) -> Result<(), Error> {
        let AdamWSettings { beta1, beta2, epsilon, weight_decay } = self.settings;
        let columns = |tensor: &Tensor| tensor.f_narrow(0, segment.start, segment.length);
        let [values, gradient, first, second] = tensors.map(columns);
        let (values, gradient, first, second) = (values?, gradient?, first?, second?);
        let rate = match &self.module_factors {
            Some(factors) if segment.modules_to_save => rate.f_mul(&factors.f_get(run)?.f_squeeze()?)?,
            _ => rate.shallow_clone(),
        };
        torch_ops::adamw(
            AdamWTensors { values: &values, gradient: &gradient, first: &first, second: &second },
            AdamWNumbers {
                step: &self.steps,
                rate: &rate,
                skipped,
                betas: [beta1, beta2],
                weight_decay: if segment.decays { weight_decay } else { 0.0 },
                epsilon,
            },
        )?;
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
