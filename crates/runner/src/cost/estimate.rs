//! The time of a group of runs on a device.

use anyhow::Result;

use crate::cost::calibration::{Calibration, Kind, Nearness};
use crate::cost::device::Device;
use crate::cost::model::ModelSizes;
use crate::cost::work::GroupWork;
use crate::tasks::{Amounts, Run};

/// A device, and what was measured on it.
#[derive(Debug, Clone)]
pub struct CostModel {
    /// The device of each worker.
    pub device: Device,
    /// What was measured there.
    pub calibration: Calibration,
}

/// The time of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupCost {
    /// Seconds of a worker.
    pub seconds: f64,
    /// Seconds of decoding images that are then kept: for the first group on a set in each worker.
    pub once_seconds: f64,
    /// What it is estimated from.
    pub nearness: Nearness,
    /// Optimiser steps.
    pub steps: f64,
}

impl CostModel {
    /// The time of runs that are trained together, each on these amounts of data.
    ///
    /// # Errors
    /// When a run has no task, or the amounts are not those of its model's kind.
    pub fn group(&self, runs: &[Run], sizes: &ModelSizes, amounts: &Amounts) -> Result<GroupCost> {
        let work = sizes.group(runs, amounts)?;
        let GroupWork { preparation, steps, step, evaluation, images } = work;
        let kind = Kind::of(&runs[0], runs.len())?;
        let correction = self.calibration.correction(&kind, &self.device);
        let (precision, family) = (kind.precision, kind.family());
        let seconds = |work| self.device.seconds(work, precision, family);
        let training = steps * seconds(step) * correction.step;
        let start = correction.start_seconds.unwrap_or(self.device.group_start());
        // Generated images cost nothing to decode; a measured step contains those that it waited for.
        let (once_seconds, waiting) = if is_generated(&runs[0]) {
            (0.0, 0.0)
        } else {
            (self.device.decoding(images.once), (self.device.decoding(images.streamed) - training).max(0.0))
        };
        let computing = training
            + seconds(preparation) * correction.preparation
            + seconds(evaluation) * correction.evaluation;
        let (seconds, nearness) = (start + computing + waiting, correction.nearness);
        Ok(GroupCost { seconds, once_seconds, nearness, steps })
    }
}

fn is_generated(run: &Run) -> bool {
    matches!(run.data, crate::resources::DataSource::Synthetic(_))
}
