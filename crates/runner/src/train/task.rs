//! What a trainer trains: the steps of K runs, their losses and gradients.

use std::time::Duration;

use anyhow::Result;
use san_core::Trainables;
use san_core::train::gradients::{self, GradientSink};
use tch::Tensor;

use crate::train::log::EpochMetrics;
use crate::train::signals::StopFlag;

/// A position in a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepPosition {
    /// Counted from 0.
    pub epoch: u64,
    /// Steps before this one, over all epochs.
    pub step: u64,
}

/// The examples of a step, for each run.
pub type StepExamples = Vec<Vec<usize>>;

/// The learning rate by step.
pub type Schedule = Box<dyn Fn(u64) -> f64>;

/// The training objective of K runs, and its data.
pub trait TrainTask {
    /// The examples of each step of an epoch; a function of the runs' seeds and the epoch.
    fn steps(&self, epoch: u64) -> Vec<StepExamples>;

    /// The learning rate by step, from the peak rate and the number of steps in each epoch.
    fn schedule(&self, learning_rate: f64, steps: &[u64]) -> Schedule;

    /// Loads the examples of a step, for [`TrainTask::gradient`].
    ///
    /// # Errors
    /// When they cannot be read.
    fn load(&mut self, examples: &[Vec<usize>], position: StepPosition) -> Result<()>;

    /// The mean loss `[K]` over each run's loaded examples, and its gradient `[K, P]`.
    ///
    /// # Errors
    /// When libtorch fails.
    fn gradient(&self, trainables: &Trainables) -> Result<(Tensor, Tensor)>;

    /// The same with the gradient of each trained tensor passed to `sink`, for a run whose gradients are not to be in
    /// memory all at once.
    ///
    /// # Errors
    /// When libtorch fails; errors of the sink.
    fn gradients(&self, trainables: &Trainables, sink: &mut dyn GradientSink) -> Result<Tensor> {
        let (losses, gradient) = self.gradient(trainables)?;
        gradients::split(trainables, &gradient, sink)?;
        Ok(losses)
    }

    /// Whether [`TrainTask::gradients`] passes on the gradients of one block of the model before it computes those of
    /// the next.
    fn streams_gradients(&self) -> bool {
        false
    }

    /// Evaluates the runs after an epoch, counted from 0, for the log only; `None`, the default, if nothing is evaluated.
    ///
    /// # Errors
    /// When data cannot be read, or a signal asked to stop.
    fn after_epoch(&mut self, epoch: u64, stop: &StopFlag) -> Result<Option<Vec<EpochMetrics>>> {
        let _ = (epoch, stop);
        Ok(None)
    }

    /// The loss of each run on held-out examples after this number of steps; `None`, the default, if it is not due. The
    /// tensors with the lowest loss are kept if [`TrainSettings::keep_best`] is set.
    ///
    /// [`TrainSettings::keep_best`]: crate::train::trainer::TrainSettings::keep_best
    ///
    /// # Errors
    /// When libtorch fails.
    fn held_out_losses(&mut self, steps: u64) -> Result<Option<Vec<f64>>> {
        let _ = steps;
        Ok(None)
    }

    /// Total time that [`TrainTask::load`] has waited.
    fn data_wait(&self) -> Duration {
        Duration::ZERO
    }
}
