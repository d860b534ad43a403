//! Training on an endless stream of batches: one thread generates a few steps ahead of the thread that trains.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use san_core::Trainables;
use san_core::train::adamw::AdamWSettings;
use san_core::train::schedule::Cosine;
use tch::Tensor;

use crate::io::files::create_folder;
use crate::pretrain::Training;
use crate::train::task::{Schedule, StepExamples, StepPosition, TrainTask};
use crate::train::trainer::{RunControl, TrainSettings, Trainer};

/// Batches that are generated ahead.
const AHEAD: usize = 8;

/// One epoch over a stream, whose batches are numbered by step.
struct Stream<B, L> {
    steps: usize,
    batches: Receiver<Result<B>>,
    batch: Option<B>,
    loss: L,
    waited: Duration,
}

impl<B, L: Fn(&B) -> Result<Tensor>> TrainTask for Stream<B, L> {
    fn steps(&self, _: u64) -> Vec<StepExamples> {
        (0..self.steps).map(|step| vec![vec![step]]).collect()
    }

    fn schedule(&self, learning_rate: f64, _: &[u64]) -> Schedule {
        let steps = self.steps as u64;
        let schedule = Cosine {
            base: learning_rate,
            warmup_start: 0.0,
            warmup_steps: (steps / 20).max(1),
            floor: 0.0,
            steps,
            warmup_prefix: true,
        };
        Box::new(move |step| schedule.rate(step))
    }

    fn load(&mut self, _: &[Vec<usize>], _: StepPosition) -> Result<()> {
        let start = Instant::now();
        self.batch = Some(self.batches.recv().context("the thread that generates batches has ended")??);
        self.waited += start.elapsed();
        Ok(())
    }

    fn gradient(&self, trainables: &Trainables) -> Result<(Tensor, Tensor)> {
        let loss = (self.loss)(self.batch.as_ref().context("no batch is loaded")?)?;
        let gradient = trainables.gradient(&loss)?;
        Ok((loss.f_detach()?.f_view([1])?, gradient))
    }

    fn data_wait(&self) -> Duration {
        self.waited
    }
}

/// Trains on the batches that `draw` makes for each step, or resumes from the checkpoint; writes the log.
pub(super) fn train<B: Send>(
    training: &Training<'_>,
    trainables: Trainables,
    draw: impl Fn(u64) -> Result<B> + Send,
    loss: impl Fn(&B) -> Result<Tensor>,
    control: &mut RunControl<'_>,
) -> Result<Trainables> {
    let settings = training.settings;
    let adamw = AdamWSettings { weight_decay: settings.weight_decay, ..AdamWSettings::default() };
    let mut trainer = Trainer::new(trainables, &TrainSettings { adamw, ..TrainSettings::default() })?;
    trainer.restore(control.checkpoint)?;
    let steps = usize::try_from(settings.steps)?;
    let remaining = trainer.progress.steps..settings.steps;
    let (sender, batches) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for step in remaining {
                if sender.send(draw(step)).is_err() {
                    break; // the training ended early
                }
            }
        });
        // Owned by this closure, so that an early return closes the channel and ends the other thread.
        let mut stream = Stream { steps, batches, batch: None, loss, waited: Duration::ZERO };
        trainer.train(&mut stream, 1, &[settings.learning_rate], control).map_err(|error| {
            trainer.save_after_error(&error, &stream, control.checkpoint).err().unwrap_or(error)
        })
    })?;
    if let Some(step) = trainer.progress.runs[0].diverged_after {
        bail!("the loss is not finite at step {step}; try a lower --learning-rate");
    }
    create_folder(training.log)?;
    trainer.publish_logs(&[training.log])?;
    Ok(trainer.trainables)
}
