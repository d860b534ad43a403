//! The training loop that all tasks, alignment and pre-training share.
//!
//! A [`TrainTask`] defines which examples make up a step and what their loss is; a [`Trainer`] owns what is trained.
//! All random choices are functions of (seed, epoch, step), so that a training resumes from a checkpoint bit for bit.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use report::record::State;
use san_core::Trainables;
use san_core::spec::trainable::Group;
use san_core::train::adamw::{AdamW, AdamWSettings};
use tch::Tensor;

use crate::error::RunError;
use crate::train::checkpoint::{CheckpointFile, Progress};
use crate::train::log::{EpochLine, EpochMetrics, RunLog, StepLine};
use crate::train::signals::StopFlag;

/// A position in a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepPosition {
    /// Counted from 0.
    pub epoch: u64,
    /// Steps before this one, over all epochs.
    pub step: u64,
}

/// A training objective and its data.
pub trait TrainTask {
    /// The examples of each step of an epoch; a function of the seed and the epoch.
    fn steps(&self, epoch: u64) -> Vec<Vec<usize>>;

    /// The learning rate by step, from the peak rate and the number of steps in each epoch.
    fn schedule(&self, learning_rate: f64, steps: &[u64]) -> Box<dyn Fn(u64) -> f64>;

    /// Loads the examples of a step, for [`TrainTask::gradient`].
    ///
    /// # Errors
    /// When they cannot be read.
    fn load(&mut self, examples: &[usize], position: StepPosition) -> Result<()>;

    /// The mean loss over the loaded examples, and its gradient `[K, P]`.
    ///
    /// # Errors
    /// When libtorch fails.
    fn gradient(&self, trainables: &Trainables) -> Result<(Tensor, Tensor)>;

    /// Evaluates after an epoch, for the log only; does nothing by default.
    ///
    /// # Errors
    /// When data cannot be read, or a signal asked to stop.
    fn after_epoch(&mut self, stop: &StopFlag) -> Result<EpochMetrics> {
        let _ = stop;
        Ok(EpochMetrics::default())
    }

    /// Total time that [`TrainTask::load`] has waited.
    fn data_wait(&self) -> Duration {
        Duration::ZERO
    }
}

/// How a training is stopped, saved and monitored.
pub struct RunControl<'a> {
    /// Checked before every step.
    pub stop: &'a StopFlag,
    /// Resumed from; written at intervals, and when a signal asks to stop.
    pub checkpoint: &'a CheckpointFile,
    /// Called with (steps done, total steps).
    pub progress: &'a mut dyn FnMut(u64, u64),
}

/// Whether every number of a tensor is finite.
///
/// # Errors
/// When libtorch fails.
pub fn is_finite(tensor: &Tensor) -> Result<bool, san_core::Error> {
    Ok(tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1)
}

/// The trained tensors, their optimiser, and the progress.
#[derive(Debug)]
pub struct Trainer {
    /// What is trained.
    pub trainables: Trainables,
    optimiser: AdamW,
    /// Steps, losses and times so far.
    pub progress: Progress,
    log: Option<RunLog>,
}

impl Trainer {
    /// A trainer at its first step.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn new(trainables: Trainables, weight_decay: f64) -> Result<Self> {
        let settings = AdamWSettings { weight_decay, ..AdamWSettings::default() };
        let optimiser = AdamW::new(&trainables, settings)?;
        Ok(Self { trainables, optimiser, progress: Progress::default(), log: None })
    }

    /// The same, with the learning rate of the fully trained modules multiplied by `factor`.
    #[must_use]
    pub fn modules_to_save_at(self, factor: f64) -> Self {
        let factors =
            self.trainables.by_group(|group| if group == Group::ModulesToSave { factor } else { 1.0 });
        Self { optimiser: self.optimiser.with_factors(factors), ..self }
    }

    /// Resumes from a checkpoint, if there is one.
    ///
    /// # Errors
    /// When a damaged file cannot be removed.
    pub fn restore(&mut self, checkpoint: &CheckpointFile) -> Result<()> {
        if let Some(progress) = checkpoint.restore(&self.trainables, &mut self.optimiser)? {
            self.progress = progress;
        }
        let mut log = checkpoint.log()?;
        log.truncate_to(&self.progress.logged)?;
        self.log = Some(log);
        Ok(())
    }

    /// Moves the logs of a finished training into the run's folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn publish_log(&mut self, folder: &Path) -> Result<()> {
        Ok(self.log.take().map_or(Ok(()), |log| log.publish(folder))?)
    }

    /// Trains for `epochs` epochs, with `learning_rate` as the peak of the task's schedule.
    ///
    /// # Errors
    /// When a batch cannot be read, a checkpoint cannot be written, or a signal asked to stop.
    pub fn train(
        &mut self,
        task: &mut (impl TrainTask + ?Sized),
        epochs: u64,
        learning_rate: f64,
        control: &mut RunControl<'_>,
    ) -> Result<State> {
        let mut saved = Instant::now();
        let counts: Vec<u64> = (0..epochs).map(|epoch| task.steps(epoch).len() as u64).collect();
        let total: u64 = counts.iter().sum();
        let rate = task.schedule(learning_rate, &counts);
        for epoch in self.progress.losses.len() as u64..epochs {
            let steps = task.steps(epoch);
            let examples: usize = steps.iter().map(Vec::len).sum();
            let before: u64 = counts.iter().take(usize::try_from(epoch)?).sum();
            let done = usize::try_from(self.progress.steps - before)?;
            for examples in steps.iter().skip(done) {
                control.stop.check()?;
                if saved.elapsed() >= control.checkpoint.every() {
                    self.save(task, control.checkpoint)?;
                    saved = Instant::now();
                }
                let position = StepPosition { epoch, step: self.progress.steps };
                task.load(examples, position)?;
                let start = Instant::now();
                let learning_rate = rate(position.step);
                let Some((loss, gradient_norm)) = self.step(task, position, learning_rate)? else {
                    return Ok(State::Diverged);
                };
                self.progress.training += start.elapsed();
                self.progress.steps += 1;
                if let Some(log) = &mut self.log {
                    log.step(&StepLine { step: self.progress.steps, loss, gradient_norm, learning_rate })?;
                }
                #[allow(clippy::cast_precision_loss)]
                {
                    self.progress.sum += loss * examples.len() as f64;
                }
                (control.progress)(self.progress.steps, total);
            }
            let metrics = task.after_epoch(control.stop)?;
            #[allow(clippy::cast_precision_loss)]
            let train_loss = self.progress.sum / examples as f64;
            if let Some(log) = &mut self.log {
                log.epoch(&EpochLine { epoch: epoch + 1, train_loss, metrics })?;
            }
            // Never NaN: an accuracy is a share.
            self.progress.test_selected = match (self.progress.test_selected, metrics.test_accuracy) {
                (Some(best), Some(now)) => Some(best.max(now)),
                (best, now) => best.or(now),
            };
            self.progress.losses.push(train_loss);
            self.progress.sum = 0.0;
        }
        // No loss was computed after the last step.
        Ok(if is_finite(self.trainables.values())? { State::Finished } else { State::Diverged })
    }

    /// One step: loss and gradient norm; `None`, and no change, if one of them is not finite.
    fn step(
        &mut self,
        task: &(impl TrainTask + ?Sized),
        position: StepPosition,
        rate: f64,
    ) -> Result<Option<(f64, f64)>> {
        let pass = self.trainables.pass();
        let (loss, gradient) = pass.training(position.step, || task.gradient(&self.trainables))?;
        let value = f64::try_from(&loss)?;
        let norm = f64::try_from(gradient.f_norm()?)?;
        if !value.is_finite() || !norm.is_finite() {
            return Ok(None);
        }
        self.optimiser.step(&self.trainables, &gradient, rate)?;
        Ok(Some((value, norm)))
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
        if let Some(log) = &mut self.log {
            self.progress.logged = log.flush()?;
        }
        let mut progress = self.progress.clone();
        progress.data_wait += task.data_wait();
        checkpoint.save(&progress, &self.trainables, &self.optimiser)
    }
}
