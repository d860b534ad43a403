//! RandAugment as in timm: a few operations per image, each applied with some probability and its own magnitude.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::random::Stream;
use crate::transform::augment::Interpolation;
use crate::transform::augment::operation::{OPERATIONS, OperationParameters};
use crate::transform::protocol::ImageProtocol;

/// The operations for each image; the default is timm's `rand-m9-mstd0.5-inc1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandAugment {
    /// The mean of the magnitude, from 0 to 10.
    pub magnitude: f64,
    /// Its standard deviation; magnitudes are clamped to 0 and 10.
    pub magnitude_deviation: f64,
    /// Whether a higher magnitude always means a stronger change.
    pub increasing: bool,
    /// Number of operations, sampled with replacement.
    pub operations: usize,
    /// The probability that a sampled operation is applied.
    pub probability: f64,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { magnitude: 9.0, magnitude_deviation: 0.5, increasing: true, operations: 2, probability: 0.5 }
    }
}

impl RandAugment {
    pub(super) fn check(&self) -> Result<(), String> {
        let within = |value: f64, most: f64| (0.0..=most).contains(&value);
        if !within(self.magnitude, 10.0) || !within(self.magnitude_deviation, 10.0) || self.operations > 100 {
            return Err(
                "`rand_augment`: magnitude or deviation is not between 0 and 10, or there are more than 100 operations"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// The changed image.
    pub(super) fn apply(
        &self,
        mut image: RgbImage,
        protocol: &ImageProtocol,
        interpolation: Interpolation,
        stream: &mut Stream,
    ) -> RgbImage {
        // Uncovered pixels get the mean colour, near 0 after normalisation.
        let fill = protocol.normalisation.statistics().0.map(|mean| (255.0 * mean).round_ties_even() as u8);
        for _ in 0..self.operations {
            let operation = stream.pick(&OPERATIONS);
            if !stream.chance(self.probability as f32) {
                continue;
            }
            let magnitude = self.magnitude + self.magnitude_deviation * stream.normal();
            let parameters = OperationParameters {
                magnitude: magnitude.clamp(0.0, 10.0),
                increasing: self.increasing,
                negative: stream.chance(0.5),
                filter: interpolation.draw(protocol, stream),
                fill,
            };
            image = operation.apply(image, &parameters);
        }
        image
    }
}
