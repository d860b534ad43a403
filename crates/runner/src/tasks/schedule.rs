//! The numbers of a learning-rate schedule apart from its peak and the length of its warm-up: where the warm-up starts,
//! the floor, and how often the rate changes. The names are timm's where it has one.

use san_core::train::schedule::Cosine;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::train::task::Schedule;

/// Warm-up and cosine decay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleProtocol {
    /// Where the linear warm-up starts: a learning rate, or `{factor: 0.1}` of the peak.
    pub warmup_from: WarmupFrom,
    /// The learning rate at the end of the decay.
    pub floor: f64,
    /// How often the rate changes.
    pub per: Per,
    /// Whether the cosine begins after the warm-up instead of at the first step.
    pub warmup_prefix: bool,
    /// The last epochs, which are spent at the floor.
    pub cooldown_epochs: u64,
}

/// The start of a warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`warmup_from` must be a learning rate, or {factor: <share of the peak>}")]
pub enum WarmupFrom {
    /// A learning rate.
    Rate(f64),
    /// A share of the peak.
    Peak(PeakFactor),
}

/// A share of the peak learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeakFactor {
    /// The share.
    pub factor: f64,
}

/// How often a learning rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// In every step.
    Step,
    /// After every epoch: timm's usual way.
    Epoch,
}

impl Default for ScheduleProtocol {
    fn default() -> Self {
        Self {
            warmup_from: WarmupFrom::Peak(PeakFactor { factor: 0.1 }),
            floor: 1e-8,
            per: Per::Step,
            warmup_prefix: true,
            cooldown_epochs: 0,
        }
    }
}

impl ScheduleProtocol {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// A clause that states what is wrong.
    pub(super) fn check(&self, warmup_epochs: u64, epochs: u64) -> Result<(), String> {
        let (WarmupFrom::Rate(start) | WarmupFrom::Peak(PeakFactor { factor: start })) = self.warmup_from;
        for (name, value) in [("warmup_from", start), ("floor", self.floor)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(format!("`{name}` must be at least 0"));
            }
        }
        if warmup_epochs.saturating_add(self.cooldown_epochs) >= epochs {
            return Err("`warmup_epochs` and `cooldown_epochs` together must be below `epochs`".into());
        }
        Ok(())
    }

    /// The schedule with a peak, for the number of steps in each epoch.
    pub(super) fn of(&self, peak: f64, warmup_epochs: u64, steps: &[u64]) -> Schedule {
        let decaying =
            steps.len().saturating_sub(usize::try_from(self.cooldown_epochs).unwrap_or(usize::MAX));
        let warmup = usize::try_from(warmup_epochs).unwrap_or(usize::MAX);
        let first = |epochs: usize| steps.iter().take(epochs).sum::<u64>();
        let (warmup_steps, total) = match self.per {
            Per::Step => (first(warmup), first(decaying)),
            Per::Epoch => (warmup_epochs, decaying as u64),
        };
        let cosine = Cosine {
            base: peak,
            warmup_start: match self.warmup_from {
                WarmupFrom::Rate(rate) => rate,
                WarmupFrom::Peak(PeakFactor { factor }) => factor * peak,
            },
            warmup_steps,
            floor: self.floor,
            steps: total,
            warmup_prefix: self.warmup_prefix,
        };
        match self.per {
            Per::Step => Box::new(move |step| cosine.rate(step)),
            Per::Epoch => {
                let ends: Vec<u64> = (1..=steps.len()).map(first).collect();
                Box::new(move |step| cosine.rate(ends.partition_point(|end| *end <= step) as u64))
            }
        }
    }

    /// All numbers, for the record.
    pub(super) fn recorded(&self) -> Value {
        json!({
            "decay": "cosine",
            "warmup_from": self.warmup_from,
            "floor": self.floor,
            "per": self.per,
            "warmup_prefix": self.warmup_prefix,
            "cooldown_epochs": self.cooldown_epochs,
        })
    }
}

/// The numbers of a schedule that starts and ends at 0, for the record.
pub(super) fn from_and_to_zero(decay: &str) -> Value {
    json!({
        "decay": decay,
        "warmup_from": 0.0,
        "floor": 0.0,
        "per": Per::Step,
        "warmup_prefix": true,
        "cooldown_epochs": 0,
    })
}
