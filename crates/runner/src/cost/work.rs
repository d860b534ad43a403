//! The units of work that take time: multiply-accumulates, kernel launches, bytes.

use std::ops::{Add, Mul};

use serde::{Deserialize, Serialize};

/// Work that takes time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Multiply-accumulates.
    pub macs: f64,
    /// Kernel launches, in units of those of a projection's forward pass.
    pub launches: f64,
    /// Bytes that are read or written apart from activations.
    pub bytes: f64,
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            macs: self.macs + other.macs,
            launches: self.launches + other.launches,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl Mul<f64> for Work {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self { macs: self.macs * times, launches: self.launches * times, bytes: self.bytes * times }
    }
}

/// The work of a group of runs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GroupWork {
    /// Forward passes before the first step: features of a frozen backbone, or of pictures.
    pub preparation: Work,
    /// Optimiser steps.
    pub steps: f64,
    /// The mean step of all runs together.
    pub step: Work,
    /// All evaluations of all runs.
    pub evaluation: Work,
    /// Images that are decoded.
    pub images: DecodedImages,
}

/// Images that are decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DecodedImages {
    /// Once, and kept for all runs on the set.
    pub once: f64,
    /// In every epoch, while the steps are computed.
    pub streamed: f64,
}
