//! What a training keeps of the trained tensors besides their last values: their average, or those with the lowest loss
//! on held-out examples. Either takes the place of the last values at the end, and is part of a checkpoint.

use anyhow::Result;
use san_core::Trainables;
use san_core::train::ema::Ema;
use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::train::checkpoint::{Best, RunProgress};
use crate::train::trainer::TrainSettings;

/// The average and the best values of the trained tensors of K runs.
#[derive(Debug)]
pub(super) struct Kept {
    ema: Option<Ema>,
    /// The tensors with the lowest held-out loss so far, `[K, P]`; zeros before the first evaluation. In main memory for
    /// a training in bf16, which is chosen where the device's is scarce.
    best: Option<Tensor>,
}

impl Kept {
    pub(super) fn new(trainables: &Trainables, settings: &TrainSettings) -> Result<Self> {
        let ema = settings.ema.map(|decay| Ema::new(trainables, decay)).transpose()?;
        let best = settings.keep_best.then(|| best_of(trainables)).transpose()?;
        Ok(Self { ema, best })
    }

    /// The tensors `[K, P]` of a checkpoint, by name.
    pub(super) fn state(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        let average = self.ema.as_ref().map(|ema| ("average", ema.values()));
        average.into_iter().chain(self.best.as_ref().map(|best| ("best", best)))
    }

    /// Continues from the tensors of [`Self::state`], in that order.
    pub(super) fn restore(&mut self, tensors: &[Tensor]) -> Result<()> {
        let mut tensors = tensors.iter();
        if let Some((ema, saved)) = self.ema.as_mut().and_then(|ema| Some((ema, tensors.next()?))) {
            ema.restore(saved)?;
        }
        if let Some((best, saved)) = self.best.as_mut().and_then(|best| Some((best, tensors.next()?))) {
            no_grad(|| best.f_copy_(saved))?;
        }
        Ok(())
    }

    /// After each step of the optimiser.
    pub(super) fn after_step(&mut self, trainables: &Trainables) -> Result<()> {
        self.ema.as_mut().map_or(Ok(()), |ema| Ok(ema.update(trainables)?))
    }

    /// Does something with the averages in place of the trained tensors, if they are kept.
    pub(super) fn with_average<T>(
        &mut self,
        trainables: &Trainables,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(ema) = &mut self.ema else { return act() };
        ema.swap(trainables)?;
        let result = act();
        ema.swap(trainables)?;
        result
    }

    /// Whether the values with the lowest loss are kept.
    pub(super) fn keeps_best(&self) -> bool {
        self.best.is_some()
    }

    /// Keeps the values of each run whose loss on held-out examples is the lowest so far.
    pub(super) fn compare(
        &mut self,
        trainables: &Trainables,
        runs: &mut [RunProgress],
        step: u64,
        losses: &[f64],
    ) -> Result<()> {
        let Some(best) = &self.best else { return Ok(()) };
        for ((run, &loss), index) in runs.iter_mut().zip(losses).zip(0..) {
            if loss.is_finite() && run.best.is_none_or(|best| loss < best.loss) {
                run.best = Some(Best { step, loss });
                let values = trainables.values().f_get(index)?;
                no_grad(|| best.f_get(index)?.f_copy_(&values))?;
            }
        }
        Ok(())
    }

    /// Puts what is kept in the place of the last values. A second call changes nothing.
    pub(super) fn replace_last(&self, trainables: &Trainables, runs: &[RunProgress]) -> Result<()> {
        if let Some(ema) = &self.ema {
            no_grad(|| trainables.values().shallow_clone().f_copy_(ema.values()))?;
        }
        let Some(best) = &self.best else { return Ok(()) };
        for (_, index) in runs.iter().zip(0..).filter(|(run, _)| run.best.is_some()) {
            no_grad(|| trainables.values().f_get(index)?.f_copy_(&best.f_get(index)?))?;
        }
        Ok(())
    }
}

fn best_of(trainables: &Trainables) -> Result<Tensor, TchError> {
    let values = trainables.values();
    let device = if values.kind() == Kind::BFloat16 { Device::Cpu } else { values.device() };
    Tensor::f_zeros(values.size(), (values.kind(), device))
}
