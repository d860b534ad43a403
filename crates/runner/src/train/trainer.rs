//! The training loop: what every kind of cell shares, whatever it learns from.
//!
//! An [`Objective`] says which examples make a step and what their loss is; a [`Learner`] owns what
//! learns. All draws are functions of (seed, epoch, step), so that a training goes on from a
//! checkpoint bit for bit.

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
use crate::train::log::{EpochLine, EpochReading, RunLog, StepLine};
use crate::train::signals::StopFlag;

/// A place in a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub epoch: u64,
    /// Steps before this one, of all epochs.
    pub step: u64,
}

/// What is learnt from.
pub trait Objective {
    /// What a step computes with.
    type Batch;

    /// The examples of each step of an epoch; a function of the seed and the epoch.
    fn steps(&self, epoch: u64) -> Vec<Vec<usize>>;

    /// Reads the examples of a step.
    ///
    /// # Errors
    /// When they cannot be read.
    fn batch(&mut self, examples: &[usize], place: Place) -> Result<Self::Batch>;

    /// The mean loss over a batch's examples, and its gradient `[K, P]`.
    ///
    /// # Errors
    /// When libtorch fails.
    fn gradient(&self, batch: &Self::Batch, trainables: &Trainables) -> Result<(Tensor, Tensor)>;

    /// What is read of the model after an epoch, for the log alone; nothing as a rule.
    ///
    /// # Errors
    /// When data cannot be read, or a signal asked to stop.
    fn after_epoch(&mut self, stop: &StopFlag) -> Result<EpochReading> {
        let _ = stop;
        Ok(EpochReading::default())
    }

    /// Time that [`Objective::batch`] took so far.
    fn reading(&self) -> Duration;
}

/// What a training asks and tells on its way.
pub struct Session<'a> {
    /// Asked before every step.
    pub stop: &'a StopFlag,
    /// Gone on from, written every so often, and written when a signal asks to stop.
    pub checkpoint: &'a CheckpointFile,
    /// Told (steps done, steps in all).
    pub progress: &'a mut dyn FnMut(u64, u64),
}

/// Whether every number of a tensor is finite.
///
/// # Errors
/// When libtorch fails.
pub fn is_finite(tensor: &Tensor) -> Result<bool, san_core::Error> {
    Ok(tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1)
}

/// The trained tensors, their optimiser, and how far they are.
#[derive(Debug)]
pub struct Learner {
    /// What is trained.
    pub trainables: Trainables,
    optimiser: AdamW,
    /// How far.
    pub progress: Progress,
    log: Option<RunLog>,
}

impl Learner {
    /// At the start.
    ///
    /// # Errors
    /// When memory is missing.
    pub fn new(trainables: Trainables, weight_decay: f64) -> Result<Self> {
        let settings = AdamWSettings { weight_decay, ..AdamWSettings::default() };
        let optimiser = AdamW::new(&trainables, settings)?;
        Ok(Self { trainables, optimiser, progress: Progress::default(), log: None })
    }

    /// The same, with the modules that are trained whole at `factor` times the learning rate.
    #[must_use]
    pub fn modules_to_save_at(self, factor: f64) -> Self {
        let factors =
            self.trainables.by_group(|group| if group == Group::ModulesToSave { factor } else { 1.0 });
        Self { optimiser: self.optimiser.with_factors(factors), ..self }
    }

    /// Goes on from a checkpoint, where there is one.
    ///
    /// # Errors
    /// When a damaged file cannot be removed.
    pub fn restore(&mut self, checkpoint: &CheckpointFile) -> Result<()> {
        if let Some(progress) = checkpoint.restore(&self.trainables, &mut self.optimiser)? {
            self.progress = progress;
        }
        let mut log = checkpoint.log()?;
        log.go_on_from(&self.progress.logged)?;
        self.log = Some(log);
        Ok(())
    }

    /// Moves the logs of a training that has ended into the cell's folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn publish_log(&mut self, folder: &Path) -> Result<()> {
        Ok(self.log.take().map_or(Ok(()), |log| log.publish(folder))?)
    }

    /// Trains `epochs` epochs with the learning rate `rate` of a step.
    ///
    /// # Errors
    /// When a batch cannot be read, a checkpoint cannot be written, or a signal asked to stop.
    pub fn train<O: Objective>(
        &mut self,
        objective: &mut O,
        epochs: u64,
        rate: &dyn Fn(u64) -> f64,
        session: &mut Session<'_>,
    ) -> Result<State> {
        let mut saved = Instant::now();
        let counts: Vec<u64> = (0..epochs).map(|epoch| objective.steps(epoch).len() as u64).collect();
        let total: u64 = counts.iter().sum();
        for epoch in self.progress.losses.len() as u64..epochs {
            let steps = objective.steps(epoch);
            let examples: usize = steps.iter().map(Vec::len).sum();
            let before: u64 = counts.iter().take(usize::try_from(epoch)?).sum();
            let done = usize::try_from(self.progress.steps - before)?;
            for examples in steps.iter().skip(done) {
                session.stop.check()?;
                if saved.elapsed() >= session.checkpoint.every() {
                    self.save(objective, session.checkpoint)?;
                    saved = Instant::now();
                }
                let place = Place { epoch, step: self.progress.steps };
                let batch = objective.batch(examples, place)?;
                let start = Instant::now();
                let learning_rate = rate(place.step);
                let Some((loss, gradient_norm)) = self.step(objective, &batch, place, learning_rate)? else {
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
                (session.progress)(self.progress.steps, total);
            }
            let reading = objective.after_epoch(session.stop)?;
            #[allow(clippy::cast_precision_loss)]
            let train_loss = self.progress.sum / examples as f64;
            if let Some(log) = &mut self.log {
                log.epoch(&EpochLine { epoch: epoch + 1, train_loss, reading })?;
            }
            // NaN-free: an accuracy is a share.
            self.progress.test_selected = match (self.progress.test_selected, reading.test_accuracy) {
                (Some(best), Some(now)) => Some(best.max(now)),
                (best, now) => best.or(now),
            };
            self.progress.losses.push(train_loss);
            self.progress.sum = 0.0;
        }
        // No loss was taken after the last step.
        Ok(if is_finite(self.trainables.values())? { State::Finished } else { State::Diverged })
    }

    /// One step: loss and norm of the gradient; none, and no change, where one of them is not finite.
    fn step<O: Objective>(
        &mut self,
        objective: &O,
        batch: &O::Batch,
        place: Place,
        rate: f64,
    ) -> Result<Option<(f64, f64)>> {
        let pass = self.trainables.pass();
        let (loss, gradient) = pass.training(place.step, || objective.gradient(batch, &self.trainables))?;
        let value = f64::try_from(&loss)?;
        let norm = f64::try_from(gradient.f_norm()?)?;
        if !value.is_finite() || !norm.is_finite() {
            return Ok(None);
        }
        self.optimiser.step(&self.trainables, &gradient, rate)?;
        Ok(Some((value, norm)))
    }

    /// After an error: what was trained is kept if that is possible, where a signal came or a disk
    /// cannot be written.
    ///
    /// # Errors
    /// When the checkpoint cannot be written.
    pub fn keep(
        &mut self,
        error: &anyhow::Error,
        objective: &impl Objective,
        checkpoint: &CheckpointFile,
    ) -> Result<()> {
        if error.is::<RunError>() && self.progress.steps > 0 {
            self.save(objective, checkpoint)
        } else {
            Ok(())
        }
    }

    fn save(&mut self, objective: &impl Objective, checkpoint: &CheckpointFile) -> Result<()> {
        if let Some(log) = &mut self.log {
            self.progress.logged = log.flush()?;
        }
        let mut progress = self.progress.clone();
        progress.reading += objective.reading();
        checkpoint.save(&progress, &self.trainables, &self.optimiser)
    }
}
