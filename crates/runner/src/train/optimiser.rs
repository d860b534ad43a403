//! The optimiser of a training, in the dtype of what is trained.

use anyhow::{Result, ensure};
use san_core::Trainables;
use san_core::train::adamw::{AdamW, AdamWSettings};
use san_core::train::clipping::clip_gradient;
use san_core::train::compensated::CompensatedAdamW;
use tch::{Kind, Tensor, no_grad};

use crate::train::streamed::Streamed;
use crate::train::task::TrainTask;

/// AdamW for tensors in f32, or for a single run whose tensors are in bf16.
#[derive(Debug)]
pub(super) enum Optimiser {
    /// Moments and gradients are in f32, `[K, P]` each.
    Flat(AdamW),
    /// Everything is in bf16, and gradients are used as they come.
    Streamed(Streamed),
}

/// A step of all runs.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Learning rate of each run, `[K, 1]`.
    pub(super) rate: &'a Tensor,
    /// The norm that the gradient is clipped to.
    pub(super) max_norm: Option<f64>,
    /// Whether all numbers of a run have been finite so far, `[K, 1]`; updated.
    pub(super) finite: &'a Tensor,
}

impl Optimiser {
    pub(super) fn new(trainables: &Trainables, settings: AdamWSettings) -> Result<Self> {
        if trainables.values().kind() != Kind::BFloat16 {
            return Ok(Self::Flat(AdamW::new(trainables, settings)?));
        }
        ensure!(trainables.stack() == 1, "runs with `adamw: {{state: bf16}}` are trained one by one");
        Ok(Self::Streamed(Streamed::new(CompensatedAdamW::new(trainables, settings)?)))
    }

    /// Multiplies the learning rate of the fully trained modules by a factor for each run.
    pub(super) fn with_module_factors(self, trainables: &Trainables, factors: &[f64]) -> Result<Self> {
        Ok(match self {
            Self::Flat(adamw) => Self::Flat(adamw.with_module_factors(trainables, factors)?),
            Self::Streamed(streamed) => {
                Self::Streamed(Streamed::new(streamed.adamw.with_module_factor(factors[0])))
            }
        })
    }

    /// Takes a step on the loaded examples; returns the losses and the norms of the gradients, `[2, K]`.
    pub(super) fn step(
        &mut self,
        task: &(impl TrainTask + ?Sized),
        trainables: &Trainables,
        step: Step<'_>,
    ) -> Result<Tensor> {
        match self {
            Self::Flat(adamw) => flat_step(adamw, task, trainables, step),
            Self::Streamed(streamed) => streamed.step(task, trainables, step),
        }
    }

    /// The tensors `[K, P]` that it resumes from, by name.
    pub(super) fn state(&self) -> Vec<(&'static str, &Tensor)> {
        match self {
            Self::Flat(adamw) => {
                let (first, second) = adamw.moments();
                vec![("first", first), ("second", second)]
            }
            Self::Streamed(streamed) => streamed.adamw.state().into(),
        }
    }

    /// Resumes after `steps` steps from the first tensors, which are those of [`Self::state`]; returns the others.
    pub(super) fn restore<'a>(&mut self, tensors: &'a [Tensor], steps: u64) -> Result<&'a [Tensor]> {
        match (self, tensors) {
            (Self::Flat(adamw), [first, second, others @ ..]) => {
                adamw.restore(first, second, steps)?;
                Ok(others)
            }
            (Self::Streamed(streamed), [first, second, compensation, others @ ..]) => {
                streamed.adamw.restore([first, second, compensation])?;
                Ok(others)
            }
            _ => Ok(tensors),
        }
    }
}

fn flat_step(
    adamw: &mut AdamW,
    task: &(impl TrainTask + ?Sized),
    trainables: &Trainables,
    step: Step<'_>,
) -> Result<Tensor> {
    let (losses, gradient) = task.gradient(trainables)?;
    no_grad(|| {
        let norms = gradient.f_norm_scalaropt_dim(2.0, [1].as_slice(), false)?;
        if let Some(max_norm) = step.max_norm {
            clip_gradient(&gradient, &norms, max_norm)?;
        }
        let numbers = Tensor::f_stack(&[losses.f_to_kind(norms.kind())?, norms], 0)?;
        let finite = numbers.f_isfinite()?.f_all_dim(0, false)?.f_view([-1, 1])?;
        let _ = step.finite.shallow_clone().f_logical_and_(&finite)?;
        adamw.step(trainables, &gradient, step.rate, Some(&step.finite.f_logical_not()?))?;
        Ok(numbers)
    })
}
