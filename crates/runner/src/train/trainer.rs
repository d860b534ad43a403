//! The training loop that all tasks, alignment and pre-training share.
//!
//! A [`Trainer`] owns what is trained: one run, or a group of runs that take their steps together. All random choices are
//! functions of (seed, epoch, step), so that a training resumes from a checkpoint bit for bit. A step does not wait for
//! the device: losses and norms are read every few steps, and a run whose numbers are not finite is stopped on
//! the device.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use report::record::State;
use san_core::Trainables;
use san_core::train::adamw::AdamWSettings;
use san_core::weights::is_finite;
use tch::{Device, Kind, Tensor, no_grad};

use crate::error::RunError;
use crate::train::checkpoint::{CheckpointFile, Progress, RunProgress};
use crate::train::kept::Kept;
use crate::train::log::{EpochLine, EpochMetrics, RunLog, StepLine};
use crate::train::optimiser::{Optimiser, Step};
use crate::train::rates::Rates;
use crate::train::signals::StopFlag;
use crate::train::task::{StepExamples, StepPosition, TrainTask};

/// Steps between two reads of losses and gradient norms from the device.
const READ_EVERY: usize = 16;

/// At most one part of the time in this many is spent on checkpoints: that of a large model has tens of gigabytes.
const CHECKPOINT_SHARE: u32 = 20;

/// How a training is stopped, saved and monitored.
pub struct RunControl<'a> {
    /// Checked before every step.
    pub stop: &'a StopFlag,
    /// Resumed from; written at intervals, and when a signal asks to stop.
    pub checkpoint: &'a CheckpointFile,
    /// Called with (steps done, total steps).
    pub progress: &'a mut dyn FnMut(u64, u64),
}

/// What a trainer does with the gradients and the trained tensors, apart from the task.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrainSettings {
    /// The optimiser's.
    pub adamw: AdamWSettings,
    /// The norm over all trained tensors of a run to which its gradient is clipped.
    pub gradient_clipping: Option<f64>,
    /// The decay of an average of the trained tensors, which takes their place at the end and in every evaluation.
    pub ema: Option<f64>,
    /// Whether the tensors with the lowest held-out loss take the place of the last ones at the end.
    pub keep_best: bool,
}

/// The trained tensors of K runs, their optimiser, and the progress.
#[derive(Debug)]
pub struct Trainer {
    /// What is trained.
    pub trainables: Trainables,
    optimiser: Optimiser,
    gradient_clipping: Option<f64>,
    kept: Kept,
    /// Steps, losses and times so far.
    pub progress: Progress,
    logs: Vec<RunLog>,
    /// Whether all numbers of a run have been finite so far, `[K, 1]`.
    finite: Tensor,
    /// Steps whose numbers have not been read yet.
    unread: Vec<UnreadStep>,
}

/// A step whose numbers are still on the device.
#[derive(Debug)]
struct UnreadStep {
    /// Losses and gradient norms, `[2, K]`.
    numbers: Tensor,
    learning_rates: Vec<f64>,
    /// Number of examples of each run.
    examples: Vec<usize>,
}

/// The time to the next checkpoint after one that took `cost`; an interval of 0 means after every step.
fn interval_after(every: Duration, cost: Duration) -> Duration {
    if every.is_zero() { every } else { every.max(cost * CHECKPOINT_SHARE) }
}

impl Trainer {
    /// A trainer at its first step.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn new(trainables: Trainables, settings: &TrainSettings) -> Result<Self> {
        let optimiser = Optimiser::new(&trainables, settings.adamw)?;
        let kept = Kept::new(&trainables, settings)?;
        let stack = trainables.stack();
        let finite = Tensor::f_ones([stack, 1], (Kind::Bool, trainables.values().device()))?;
        let runs = vec![RunProgress::default(); usize::try_from(stack)?];
        Ok(Self {
            trainables,
            optimiser,
            gradient_clipping: settings.gradient_clipping,
            kept,
            progress: Progress { runs, ..Progress::default() },
            logs: Vec::new(),
            finite,
            unread: Vec::new(),
        })
    }

    /// The same, with the learning rate of the fully trained modules multiplied by a factor for each run.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn modules_to_save_at(self, factors: &[f64]) -> Result<Self> {
        let optimiser = self.optimiser.with_module_factors(&self.trainables, factors)?;
        Ok(Self { optimiser, ..self })
    }

    /// Resumes from a checkpoint, if there is one.
    ///
    /// # Errors
    /// When a damaged file cannot be removed.
    pub fn restore(&mut self, checkpoint: &CheckpointFile) -> Result<()> {
        let names: Vec<&str> = self.state().into_iter().map(|(name, _)| name).collect();
        if let Some((progress, tensors)) = checkpoint.restore(&self.trainables, &names)? {
            self.progress = progress;
            self.restore_state(&tensors)?;
            let finite: Vec<bool> =
                self.progress.runs.iter().map(|run| run.diverged_after.is_none()).collect();
            self.finite.f_copy_(&Tensor::f_from_slice(&finite)?.f_unsqueeze(1)?)?;
        }
        self.logs = checkpoint.logs()?;
        for (log, run) in self.logs.iter_mut().zip(&self.progress.runs) {
            log.truncate_to(&run.logged)?;
        }
        Ok(())
    }

    /// All tensors `[K, P]` that a training resumes from, by name.
    fn state(&self) -> Vec<(&'static str, &Tensor)> {
        let mut state = self.optimiser.state();
        state.push(("values", self.trainables.values()));
        state.extend(self.kept.state());
        state
    }

    /// Continues from the tensors of [`Self::state`], in that order.
    fn restore_state(&mut self, tensors: &[Tensor]) -> Result<()> {
        let [values, kept @ ..] = self.optimiser.restore(tensors, self.progress.steps)? else {
            return Ok(());
        };
        no_grad(|| self.trainables.values().shallow_clone().f_copy_(values))?;
        self.kept.restore(kept)
    }

    /// Moves the logs of finished runs into their folders.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn publish_logs(&mut self, folders: &[&Path]) -> Result<()> {
        self.logs.drain(..).zip(folders).try_for_each(|(log, folder)| Ok(log.publish(folder)?))
    }

    /// Trains for `epochs` epochs, with a peak of the task's schedule for each run.
    ///
    /// # Errors
    /// When a batch cannot be read, a checkpoint cannot be written, or a signal asked to stop.
    pub fn train(
        &mut self,
        task: &mut (impl TrainTask + ?Sized),
        epochs: u64,
        learning_rates: &[f64],
        control: &mut RunControl<'_>,
    ) -> Result<()> {
        let (mut saved, mut interval) = (Instant::now(), control.checkpoint.every());
        let counts: Vec<u64> = (0..epochs).map(|epoch| task.steps(epoch).len() as u64).collect();
        let total: u64 = counts.iter().sum();
        let rates = Rates::new(task, learning_rates, &counts, self.trainables.values().device())?;
        for epoch in self.progress.epochs..epochs {
            let steps = task.steps(epoch);
            let before: u64 = counts.iter().take(usize::try_from(epoch)?).sum();
            let done = usize::try_from(self.progress.steps - before)?;
            for examples in steps.iter().skip(done) {
                control.stop.check()?;
                if saved.elapsed() >= interval {
                    let start = Instant::now();
                    self.save(task, control.checkpoint)?;
                    saved = Instant::now();
                    interval = interval_after(control.checkpoint.every(), saved - start);
                }
                if self.have_all_diverged() {
                    return Ok(());
                }
                let position = StepPosition { epoch, step: self.progress.steps };
                task.load(examples, position)?;
                let start = Instant::now();
                self.step(task, position, examples, &rates)?;
                self.compare_held_out(task)?;
                self.progress.training += start.elapsed();
                (control.progress)(self.progress.steps, total);
            }
            let start = Instant::now();
            self.read_numbers()?;
            self.progress.training += start.elapsed();
            if self.have_all_diverged() {
                return Ok(());
            }
            let metrics =
                self.kept.with_average(&self.trainables, || task.after_epoch(epoch, control.stop))?;
            self.end_epoch(&steps, metrics)?;
        }
        self.kept.replace_last(&self.trainables, &self.progress.runs)?;
        self.check_values()
    }

    /// Compares the losses on held-out examples with the lowest so far, if they are due. No signal interrupts this: a
    /// training that resumes after the step would not repeat it.
    fn compare_held_out(&mut self, task: &mut (impl TrainTask + ?Sized)) -> Result<()> {
        let step = self.progress.steps;
        let losses = if self.kept.keeps_best() { task.held_out_losses(step)? } else { None };
        let Some(losses) = losses else { return Ok(()) };
        self.kept.compare(&self.trainables, &mut self.progress.runs, step, &losses)
    }

    /// One step of all runs.
    fn step(
        &mut self,
        task: &(impl TrainTask + ?Sized),
        position: StepPosition,
        examples: &[Vec<usize>],
        rates: &Rates,
    ) -> Result<()> {
        let (trainables, rate) = (&self.trainables, rates.at(position.step)?);
        let step = Step {
            number: position.step + 1,
            rate: &rate,
            max_norm: self.gradient_clipping,
            finite: &self.finite,
        };
        let pass = trainables.pass();
        let numbers = pass.training(position.step, || self.optimiser.step(task, trainables, step))?;
        self.kept.after_step(trainables)?;
        self.unread.push(UnreadStep {
            numbers,
            learning_rates: rates.of_runs(position.step),
            examples: examples.iter().map(Vec::len).collect(),
        });
        self.progress.steps += 1;
        if self.unread.len() >= READ_EVERY { self.read_numbers() } else { Ok(()) }
    }

    /// Reads the numbers of the last steps: notes which runs have diverged, and logs the steps of the others.
    fn read_numbers(&mut self) -> Result<()> {
        let unread = std::mem::take(&mut self.unread);
        let first = self.progress.steps - unread.len() as u64;
        let numbers: Vec<&Tensor> = unread.iter().map(|step| &step.numbers).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        let runs = self.progress.runs.len();
        let numbers = Tensor::f_stack(&numbers, 0)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let numbers: Vec<f64> = Vec::try_from(numbers.f_flatten(0, -1)?)?;
        for ((numbers, of_step), step) in numbers.chunks(2 * runs).zip(&unread).zip(first..) {
            let (losses, norms) = numbers.split_at(runs);
            for (index, run) in self.progress.runs.iter_mut().enumerate() {
                let (loss, gradient_norm) = (losses[index], norms[index]);
                if run.diverged_after.is_some() {
                    continue;
                }
                if !(loss.is_finite() && gradient_norm.is_finite()) {
                    run.diverged_after = Some(step);
                    continue;
                }
                if let Some(log) = self.logs.get_mut(index) {
                    let learning_rate = of_step.learning_rates[index];
                    log.step(&StepLine { step: step + 1, loss, gradient_norm, learning_rate })?;
                }
                #[allow(clippy::cast_precision_loss)]
                {
                    run.sum += loss * of_step.examples[index] as f64;
                }
            }
        }
        Ok(())
    }

    fn have_all_diverged(&self) -> bool {
        self.progress.runs.iter().all(|run| run.diverged_after.is_some())
    }

    /// Logs the epoch of every run that has not diverged.
    fn end_epoch(&mut self, steps: &[StepExamples], metrics: Option<Vec<EpochMetrics>>) -> Result<()> {
        let epoch = self.progress.epochs + 1;
        for (index, run) in self.progress.runs.iter_mut().enumerate() {
            if run.diverged_after.is_some() {
                continue;
            }
            let examples: usize = steps.iter().map(|runs| runs[index].len()).sum();
            let metrics = metrics.as_ref().map_or_else(EpochMetrics::default, |metrics| metrics[index]);
            #[allow(clippy::cast_precision_loss)]
            let train_loss = run.sum / examples as f64;
            if let Some(log) = self.logs.get_mut(index) {
                log.epoch(&EpochLine { epoch, train_loss, metrics })?;
            }
            // Never NaN: an accuracy is a share.
            run.test_selected = match (run.test_selected, metrics.test_accuracy) {
                (Some(best), Some(now)) => Some(best.max(now)),
                (best, now) => best.or(now),
            };
            run.losses.push(train_loss);
            run.sum = 0.0;
        }
        self.progress.epochs = epoch;
        Ok(())
    }

    /// No loss was computed after the last step: a run whose last update was not finite diverged too.
    fn check_values(&mut self) -> Result<()> {
        for (run, index) in self.progress.runs.iter_mut().zip(0..) {
            let finite = is_finite(&self.trainables.values().f_get(index)?)?;
            if !finite && run.diverged_after.is_none() {
                run.diverged_after = Some(self.progress.steps);
            }
        }
        Ok(())
    }

    /// How each run ended.
    pub fn states(&self) -> Vec<State> {
        let state = |run: &RunProgress| match run.diverged_after {
            None => State::Finished,
            Some(_) => State::Diverged,
        };
        self.progress.runs.iter().map(state).collect()
    }

    /// Called after an error: saves a checkpoint if a signal came or a file could not be written.
    ///
    /// # Errors
    /// When the checkpoint cannot be written.
    pub fn save_after_error(
        &mut self,
        error: &anyhow::Error,
        task: &(impl TrainTask + ?Sized),
        checkpoint: &CheckpointFile,
    ) -> Result<()> {
        if error.is::<RunError>() && self.progress.steps > 0 { self.save(task, checkpoint) } else { Ok(()) }
    }

    fn save(&mut self, task: &(impl TrainTask + ?Sized), checkpoint: &CheckpointFile) -> Result<()> {
        self.read_numbers()?;
        for (log, run) in self.logs.iter_mut().zip(&mut self.progress.runs) {
            run.logged = log.flush()?;
        }
        let mut progress = self.progress.clone();
        progress.data_wait += task.data_wait();
        checkpoint.save(&progress, &self.trainables, &self.state())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_take_a_twentieth_of_the_time_at_most() {
        let seconds = Duration::from_secs;
        assert_eq!(interval_after(seconds(60), seconds(1)), seconds(60));
        assert_eq!(interval_after(seconds(60), seconds(45)), seconds(900));
        assert_eq!(interval_after(Duration::ZERO, seconds(45)), Duration::ZERO);
    }
}
