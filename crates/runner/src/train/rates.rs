//! The learning rates of a training, known before its first step.

use anyhow::Result;
use tch::{Device, Tensor};

use crate::train::task::{Schedule, TrainTask};

/// The learning rates of all runs and steps.
pub(super) struct Rates {
    schedules: Vec<Schedule>,
    /// `[steps, K, 1]`, on the device: a copy from the host in every step would wait for the device.
    table: Tensor,
}

impl Rates {
    /// The rates of a task's schedule with a peak for each run, and the number of steps in each epoch.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub(super) fn new(
        task: &(impl TrainTask + ?Sized),
        peaks: &[f64],
        steps: &[u64],
        device: Device,
    ) -> Result<Self> {
        let schedules: Vec<Schedule> = peaks.iter().map(|&peak| task.schedule(peak, steps)).collect();
        let total: u64 = steps.iter().sum();
        #[allow(clippy::cast_possible_truncation)]
        let rates = (0..total).flat_map(|step| schedules.iter().map(move |schedule| schedule(step) as f32));
        let table = Tensor::f_from_slice(&rates.collect::<Vec<f32>>())?;
        let table = table.f_view([-1, schedules.len() as i64, 1])?.f_to_device(device)?;
        Ok(Self { schedules, table })
    }

    /// The rates of a step, `[K, 1]`.
    pub(super) fn at(&self, step: u64) -> Result<Tensor> {
        Ok(self.table.f_get(i64::try_from(step)?)?)
    }

    /// The rate of each run in a step.
    pub(super) fn of_runs(&self, step: u64) -> Vec<f64> {
        self.schedules.iter().map(|schedule| schedule(step)).collect()
    }
}
