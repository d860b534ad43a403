//! The learning rate as a function of the step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// Linear warm-up, then half a cosine down to a floor.
///
/// As timm's `CosineLRScheduler` with `warmup_prefix=True`: step 0 has `warmup_start`, the cosine
/// begins when the warm-up ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cosine {
    /// Rate at the top.
    pub base: f64,
    /// Rate at step 0, where there is a warm-up.
    pub warmup_start: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// Rate at the end.
    pub floor: f64,
    /// All steps, warm-up included.
    pub steps: u64,
}

impl Cosine {
    /// The rate of step `step`, from 0.
    #[allow(clippy::cast_precision_loss)]
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            let part = step as f64 / self.warmup_steps as f64;
            return self.warmup_start + part * (self.base - self.warmup_start);
        }
        let length = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let part = ((step - self.warmup_steps) as f64 / length).min(1.0);
        self.floor + 0.5 * (self.base - self.floor) * (1.0 + (PI * part).cos())
    }
}

/// Linear warm-up from 0, then linearly down to 0, as transformers' `get_linear_schedule_with_warmup`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// Rate at the top.
    pub base: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// All steps, warm-up included.
    pub steps: u64,
}

impl Linear {
    /// The rate of step `step`, from 0.
    #[allow(clippy::cast_precision_loss)]
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.base * step as f64 / self.warmup_steps as f64;
        }
        let length = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
        self.base * (self.steps.saturating_sub(step) as f64 / length)
    }
}
