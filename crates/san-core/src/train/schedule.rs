//! Learning-rate schedules.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// Linear warm-up, then half a cosine down to a floor.
///
/// Same as timm's `CosineLRScheduler`: step 0 uses `warmup_start`. Steps may be those of the optimiser or epochs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cosine {
    /// Peak learning rate.
    pub base: f64,
    /// Learning rate at step 0, if there is a warm-up.
    pub warmup_start: f64,
    /// Warm-up steps.
    pub warmup_steps: u64,
    /// Final learning rate.
    pub floor: f64,
    /// Total steps, including warm-up.
    pub steps: u64,
    /// Whether the cosine begins when the warm-up ends. Otherwise it begins at step 0 and is hidden by the warm-up,
    /// after which the rate drops onto it: the default of timm's command line.
    pub warmup_prefix: bool,
}

impl Cosine {
    /// The learning rate at step `step`, counted from 0.
    #[allow(clippy::cast_precision_loss)]
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            let part = step as f64 / self.warmup_steps as f64;
            return self.warmup_start + part * (self.base - self.warmup_start);
        }
        let start = if self.warmup_prefix { self.warmup_steps } else { 0 };
        let length = self.steps.saturating_sub(start).max(1) as f64;
        let part = ((step - start) as f64 / length).min(1.0);
        self.floor + 0.5 * (self.base - self.floor) * (1.0 + (PI * part).cos())
    }
}

/// Linear warm-up from 0, then linear decay to 0, as transformers' `get_linear_schedule_with_warmup`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// Peak learning rate.
    pub base: f64,
    /// Warm-up steps.
    pub warmup_steps: u64,
    /// Total steps, including warm-up.
    pub steps: u64,
}

impl Linear {
    /// The learning rate at step `step`, counted from 0.
    #[allow(clippy::cast_precision_loss)]
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.base * step as f64 / self.warmup_steps as f64;
        }
        let length = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
        self.base * (self.steps.saturating_sub(step) as f64 / length)
    }
}
