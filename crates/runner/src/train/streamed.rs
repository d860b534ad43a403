//! Steps of a training whose state is in bf16 ([`CompensatedAdamW`]): each trained tensor is updated as soon as its
//! gradient is complete, and the gradient is freed.
//!
//! Where the backward pass goes through the model block by block (gradient checkpointing), at most the gradients of one
//! block are in memory, besides those of tensors that several blocks use. A tensor's gradient is complete when as many
//! parts of the model have contributed as in a first pass, which only counts. Clipping needs the norm of the whole gradient
//! before the first update, and takes a second backward pass for it. Everywhere else the gradients of all tensors are
//! held, in bf16, and freed tensor by tensor.

use anyhow::Result;
use san_core::train::clipping::clip_factor;
use san_core::train::compensated::{CompensatedAdamW, UpdateNumbers};
use san_core::train::gradients::{GradientSink, GradientSum};
use san_core::{Error, Trainables};
use tch::{Kind, Tensor};

use crate::train::optimiser::Step;
use crate::train::task::TrainTask;

/// The optimiser of a run that is trained in bf16, and what it knows of the model.
#[derive(Debug)]
pub(super) struct Streamed {
    pub(super) adamw: CompensatedAdamW,
    /// The number of parts of the model that contribute to the gradient of each tensor, once they have been counted.
    contributions: Option<Vec<usize>>,
}

impl Streamed {
    pub(super) fn new(adamw: CompensatedAdamW) -> Self {
        Self { adamw, contributions: None }
    }

    /// Takes a step on the loaded examples; returns the loss and the norm of the gradient, `[2, 1]`.
    pub(super) fn step(
        &mut self,
        task: &(impl TrainTask + ?Sized),
        trainables: &Trainables,
        step: Step<'_>,
    ) -> Result<Tensor> {
        let rate = step.rate.f_squeeze()?;
        let step = Step { rate: &rate, ..step };
        if task.streams_gradients() {
            self.step_as_gradients_come(task, trainables, step)
        } else {
            self.step_on_held_gradients(task, trainables, step)
        }
    }

    fn step_on_held_gradients(
        &self,
        task: &(impl TrainTask + ?Sized),
        trainables: &Trainables,
        step: Step<'_>,
    ) -> Result<Tensor> {
        let mut sum = GradientSum::new(trainables);
        let losses = task.gradients(trainables, &mut sum)?;
        let mut norm = Norm::new(trainables)?;
        sum.gradients().try_for_each(|gradient| norm.add(gradient))?;
        let numbers = norm.with_losses(&losses)?;
        let stopped = stopped(step.finite, &numbers)?;
        let clip = |max_norm| clip_factor(&norm.squared.f_sqrt()?, max_norm);
        let factor = step.max_norm.map(clip).transpose()?;
        let update = UpdateNumbers { factor: factor.as_ref(), ..step.update(&stopped) };
        for (position, gradient) in sum.into_gradients().enumerate() {
            self.adamw.update(trainables, position, &gradient?, &update)?;
        }
        Ok(numbers)
    }

    fn step_as_gradients_come(
        &mut self,
        task: &(impl TrainTask + ?Sized),
        trainables: &Trainables,
        step: Step<'_>,
    ) -> Result<Tensor> {
        let contributions = match self.contributions.take() {
            Some(contributions) => contributions,
            None => {
                let mut count = Count(trainables.iter().map(|_| 0).collect());
                let _ = task.gradients(trainables, &mut count)?;
                count.0
            }
        };
        let gradients = |act: Act<'_>| {
            let mut complete = Complete::new(trainables, &contributions, act);
            let losses = task.gradients(trainables, &mut complete)?;
            complete.finish()?;
            Ok(losses)
        };
        let numbers = match step.max_norm {
            Some(max_norm) => self.step_after_a_pass_for_the_norm(trainables, &gradients, max_norm, step),
            None => self.step_in_one_pass(trainables, &gradients, step),
        };
        self.contributions = Some(contributions);
        numbers
    }

    fn step_after_a_pass_for_the_norm(
        &self,
        trainables: &Trainables,
        gradients: &dyn Fn(Act<'_>) -> Result<Tensor>,
        max_norm: f64,
        step: Step<'_>,
    ) -> Result<Tensor> {
        let mut norm = Norm::new(trainables)?;
        let losses = gradients(&mut |_, gradient| norm.add(&gradient))?;
        let numbers = norm.with_losses(&losses)?;
        let stopped = stopped(step.finite, &numbers)?;
        let factor = clip_factor(&norm.squared.f_sqrt()?, max_norm)?;
        let update = UpdateNumbers { factor: Some(&factor), ..step.update(&stopped) };
        let mut act =
            |position, gradient: Tensor| self.adamw.update(trainables, position, &gradient, &update);
        let _ = gradients(&mut act)?;
        Ok(numbers)
    }

    /// The run is stopped at the first tensor whose gradient is not finite.
    fn step_in_one_pass(
        &self,
        trainables: &Trainables,
        gradients: &dyn Fn(Act<'_>) -> Result<Tensor>,
        step: Step<'_>,
    ) -> Result<Tensor> {
        let mut norm = Norm::new(trainables)?;
        let losses = gradients(&mut |position, gradient| {
            norm.add(&gradient)?;
            let stopped = stopped(step.finite, &norm.squared)?;
            self.adamw.update(trainables, position, &gradient, &step.update(&stopped))
        })?;
        let numbers = norm.with_losses(&losses)?;
        let _ = stopped(step.finite, &numbers)?;
        Ok(numbers)
    }
}

impl Step<'_> {
    fn update<'a>(&'a self, stopped: &'a Tensor) -> UpdateNumbers<'a> {
        UpdateNumbers { step: self.number, rate: self.rate, stopped, factor: None }
    }
}

/// Notes whether more numbers are finite; returns whether the run is stopped, a boolean scalar.
fn stopped(finite: &Tensor, numbers: &Tensor) -> Result<Tensor, Error> {
    let _ = finite.shallow_clone().f_logical_and_(&numbers.f_isfinite()?.f_all()?)?;
    Ok(finite.f_logical_not()?.f_squeeze()?)
}

/// The norm of a gradient that is known tensor by tensor.
struct Norm {
    /// Its square so far, a scalar in f32.
    squared: Tensor,
}

impl Norm {
    fn new(trainables: &Trainables) -> Result<Self, Error> {
        Ok(Self { squared: Tensor::f_zeros([], (Kind::Float, trainables.values().device()))? })
    }

    fn add(&mut self, gradient: &Tensor) -> Result<(), Error> {
        let _ = self.squared.f_add_(&torch_ops::squared_norm(gradient)?)?;
        Ok(())
    }

    /// The losses `[1]` and the norm, `[2, 1]`.
    fn with_losses(&self, losses: &Tensor) -> Result<Tensor, Error> {
        let norm = self.squared.f_sqrt()?.f_view([1])?;
        Ok(Tensor::f_stack(&[losses.f_to_kind(Kind::Float)?, norm], 0)?)
    }
}

/// Counts how often each tensor is given a gradient.
struct Count(Vec<usize>);

impl GradientSink for Count {
    fn take(&mut self, position: usize, _: Tensor) -> Result<(), Error> {
        self.0[position] += 1;
        Ok(())
    }
}

/// What is done with a complete gradient, given the position of its tensor.
type Act<'a> = &'a mut dyn FnMut(usize, Tensor) -> Result<(), Error>;

/// Acts on gradients as soon as all contributions are there.
struct Complete<'a> {
    trainables: &'a Trainables,
    /// The expected number for each tensor.
    contributions: &'a [usize],
    seen: Vec<usize>,
    sums: Vec<Option<Tensor>>,
    act: Act<'a>,
}

impl<'a> Complete<'a> {
    fn new(trainables: &'a Trainables, contributions: &'a [usize], act: Act<'a>) -> Self {
        let seen = vec![0; contributions.len()];
        let sums = contributions.iter().map(|_| None).collect();
        Self { trainables, contributions, seen, sums, act }
    }

    /// Acts on the rest: the tensors that this batch has not as many gradients of, which may be none.
    fn finish(self) -> Result<(), Error> {
        let tensors = self.trainables.iter().zip(self.seen).zip(self.contributions).zip(self.sums);
        for (position, ((((_, leaf), seen), expected), sum)) in tensors.enumerate() {
            if seen == 0 || seen != *expected {
                (self.act)(position, sum.map_or_else(|| leaf.f_zeros_like(), Ok)?)?;
            }
        }
        Ok(())
    }
}

impl GradientSink for Complete<'_> {
    fn take(&mut self, position: usize, gradient: Tensor) -> Result<(), Error> {
        let (seen, expected) = (&mut self.seen[position], self.contributions[position]);
        if *seen == expected && expected > 0 {
            let (spec, _) = self.trainables.iter().nth(position).unzip();
            return Err(Error::LateGradient {
                name: spec.map_or_else(String::new, |spec| spec.name.clone()),
            });
        }
        *seen += 1;
        let sum = match self.sums[position].take() {
            Some(before) => before.f_add(&gradient)?,
            None => gradient,
        };
        if *seen == expected {
            return (self.act)(position, sum);
        }
        self.sums[position] = Some(sum);
        Ok(())
    }
}
