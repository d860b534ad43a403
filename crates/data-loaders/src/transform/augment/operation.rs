//! The operations of RandAugment, and the meaning of a magnitude for each: timm's `rand-...-inc1` tables.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::transform::augment::affine::{Matrix, rotation, transform};
use crate::transform::augment::{enhance, levels};
use crate::transform::protocol::Filter;

/// An operation, by timm's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Operation {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Color,
    Contrast,
    Brightness,
    Sharpness,
    ShearX,
    ShearY,
    TranslateXRel,
    TranslateYRel,
}

/// All operations, in timm's order and with equal probability.
pub(super) const OPERATIONS: [Operation; 15] = [
    Operation::AutoContrast,
    Operation::Equalize,
    Operation::Invert,
    Operation::Rotate,
    Operation::Posterize,
    Operation::Solarize,
    Operation::SolarizeAdd,
    Operation::Color,
    Operation::Contrast,
    Operation::Brightness,
    Operation::Sharpness,
    Operation::ShearX,
    Operation::ShearY,
    Operation::TranslateXRel,
    Operation::TranslateYRel,
];

/// Parameters of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct OperationParameters {
    /// From 0 to 10.
    pub(super) magnitude: f64,
    /// Whether a higher magnitude always means a stronger change; otherwise colour and similar operations range from
    /// 0.1 to 1.9, and solarize and posterize from strong to weak.
    pub(super) increasing: bool,
    /// Whether a directional operation is reversed.
    pub(super) negative: bool,
    /// The interpolation kernel of geometric operations.
    pub(super) filter: Filter,
    /// The colour of pixels uncovered by geometric operations.
    pub(super) fill: [u8; 3],
}

impl OperationParameters {
    fn share(&self) -> f64 {
        self.magnitude / 10.0
    }

    fn signed(&self, value: f64) -> f64 {
        if self.negative { -value } else { value }
    }

    /// A factor of `ImageEnhance`; 1 changes nothing.
    fn factor(&self) -> f64 {
        if self.increasing {
            (1.0 + self.signed(self.share() * 0.9)).max(0.1)
        } else {
            self.share() * 1.8 + 0.1
        }
    }

    /// The upper bits that posterize keeps, at most four. Zero bits give black, as in the versions of PIL that timm's
    /// recipes were made with; later ones reject it.
    fn bits(&self) -> u32 {
        let bits = (self.share() * 4.0) as u32;
        if self.increasing { 4_u32.saturating_sub(bits) } else { bits }
    }

    /// The level from which solarize inverts, 0 to 256.
    fn threshold(&self) -> u32 {
        let level = ((self.share() * 256.0) as u32).min(256);
        if self.increasing { 256 - level } else { level }
    }
}

impl Operation {
    /// The changed image.
    pub(super) fn apply(self, mut image: RgbImage, parameters: &OperationParameters) -> RgbImage {
        match self {
            Self::AutoContrast => levels::autocontrast(&mut image),
            Self::Equalize => levels::equalize(&mut image),
            Self::Invert => levels::map(&mut image, |level| 255 - level),
            Self::Posterize => {
                let mask = 0xFF_u32 << (8 - parameters.bits());
                levels::map(&mut image, |level| level & mask as u8);
            }
            Self::Solarize => {
                let threshold = parameters.threshold();
                levels::map(
                    &mut image,
                    |level| if u32::from(level) < threshold { level } else { 255 - level },
                );
            }
            Self::SolarizeAdd => {
                let added = ((parameters.share() * 110.0) as u8).min(128);
                levels::map(
                    &mut image,
                    |level| if level < 128 { level.saturating_add(added) } else { level },
                );
            }
            Self::Color => enhance::colour(&mut image, parameters.factor()),
            Self::Contrast => enhance::contrast(&mut image, parameters.factor()),
            Self::Brightness => enhance::brightness(&mut image, parameters.factor()),
            Self::Sharpness => enhance::sharpness(&mut image, parameters.factor()),
            Self::Rotate | Self::ShearX | Self::ShearY | Self::TranslateXRel | Self::TranslateYRel => {
                let matrix = self.matrix(image.dimensions(), parameters);
                return transform(&image, &matrix, parameters.filter, parameters.fill);
            }
        }
        image
    }

    /// The affine map of a geometric operation; the identity for others.
    fn matrix(self, (width, height): (u32, u32), parameters: &OperationParameters) -> Matrix {
        let shear = parameters.signed(parameters.share() * 0.3);
        let shift = parameters.signed(parameters.share() * 0.45);
        match self {
            Self::Rotate => rotation(parameters.signed(parameters.share() * 30.0), (width, height)),
            Self::ShearX => [1.0, shear, 0.0, 0.0, 1.0, 0.0],
            Self::ShearY => [1.0, 0.0, 0.0, shear, 1.0, 0.0],
            Self::TranslateXRel => [1.0, 0.0, shift * f64::from(width), 0.0, 1.0, 0.0],
            Self::TranslateYRel => [1.0, 0.0, 0.0, 0.0, 1.0, shift * f64::from(height)],
            _ => [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A line of tools/augmentation_fixtures.py.
    #[derive(Deserialize)]
    struct Case {
        operation: Operation,
        magnitude: f64,
        increasing: bool,
        negative: bool,
        filter: Filter,
    }

    fn fixture(name: &str) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/augment", name].iter().collect()
    }

    #[test]
    fn every_operation_equals_timm_bit_for_bit() {
        let cases: Vec<Case> =
            serde_json::from_slice(&std::fs::read(fixture("operations.json")).unwrap()).unwrap();
        assert!(OPERATIONS.iter().all(|operation| cases.iter().any(|case| case.operation == *operation)));
        for name in ["wide", "small"] {
            let source = image::open(fixture(&format!("{name}.png"))).unwrap().into_rgb8();
            let results = image::open(fixture(&format!("{name}.results.png"))).unwrap().into_rgb8();
            let size = 3 * (source.width() * source.height()) as usize;
            assert_eq!(results.len(), cases.len() * size);
            for (case, expected) in cases.iter().zip(results.chunks_exact(size)) {
                let Case { operation, magnitude, increasing, negative, filter } = *case;
                let parameters =
                    OperationParameters { magnitude, increasing, negative, filter, fill: [124, 116, 104] };
                let ours = operation.apply(source.clone(), &parameters);
                let differing = ours.iter().zip(expected).filter(|(ours, expected)| ours != expected).count();
                assert_eq!(
                    differing, 0,
                    "{name}: {operation:?} {parameters:?}: {differing} of {size} values differ"
                );
            }
        }
    }
}
