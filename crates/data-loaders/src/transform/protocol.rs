//! The preprocessing of images: the choices in which published code differs, as named fields of a configuration.
//!
//! VPT and SSF do not use ImageNet statistics for VTAB while NOAH and FacT do, so results are only comparable under the
//! same protocol; the runner stores this structure with every result. `transform` implements it.

use serde::{Deserialize, Serialize};

/// The deterministic path from a decoded image to the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageProtocol {
    /// Side of the square input, in pixels.
    pub image_size: u32,
    /// How the image is resized to that size.
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub resize: Resize,
    /// The interpolation kernel.
    pub filter: Filter,
    /// The affine map applied to values in 0..=1.
    pub normalisation: Normalisation,
}

/// How an image is resized to the input size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resize {
    /// Directly to a square, without keeping the aspect ratio: the convention of VTAB (Zhai et al. 2019, section 3).
    Plain,
    /// The shorter side to `image_size / crop_pct`, then a centre crop: timm's evaluation transform, with `crop_pct`
    /// from the weights' configuration.
    TimmEval {
        /// Ratio of the crop to the shorter side.
        crop_pct: CropShare,
    },
}

/// A ratio in thousandths: above 0 and at most 1. Files have it as a number, 0.875.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct CropShare(u16);

impl CropShare {
    /// The length to which the shorter side is resized before the centre crop of `image_size`; timm's rule, rounded
    /// down.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 2^32 - 1 / 0.001, saturating"
    )]
    pub fn scale_size(self, image_size: u32) -> u32 {
        (f64::from(image_size) / f64::from(self)).floor() as u32
    }
}

impl TryFrom<f64> for CropShare {
    type Error = String;

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
    fn try_from(share: f64) -> Result<Self, String> {
        let thousandths = (share * 1000.0).round();
        if (1.0..=1000.0).contains(&thousandths) && (thousandths / 1000.0 - share).abs() < 1e-9 {
            Ok(Self(thousandths as u16))
        } else {
            Err(format!("a crop share of {share} is not a multiple of 0.001 between 0.001 and 1"))
        }
    }
}

impl From<CropShare> for f64 {
    fn from(share: CropShare) -> Self {
        Self::from(share.0) / 1000.0
    }
}

/// An interpolation kernel, antialiased (its support grows with the reduction) as in PIL's `Image.resize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The triangle kernel; PIL's `BILINEAR`.
    Bilinear,
    /// Keys' cubic with a = -0.5 (Catmull-Rom); PIL's `BICUBIC`.
    Bicubic,
}

/// Channel statistics used for normalisation; values are in 0..=1 before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// Values stay in 0..=1.
    None,
    /// Mean and standard deviation 0.5 in every channel, so values lie in -1..=1 (timm's "inception" statistics, which
    /// the augreg ViT weights use).
    Half,
    /// ImageNet's channel means and standard deviations, as in torchvision and timm.
    Imagenet,
    /// The statistics of CLIP's training images (Radford et al. 2021), which its vision towers expect.
    Clip,
}

impl Normalisation {
    /// The means and the standard deviations of the three channels (red, green, blue).
    pub fn statistics(self) -> ([f32; 3], [f32; 3]) {
        match self {
            Self::None => ([0.0; 3], [1.0; 3]),
            Self::Half => ([0.5; 3], [0.5; 3]),
            Self::Imagenet => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            Self::Clip => {
                ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_specify_the_resize_mode_and_its_crop_share() {
        let read = |resize: &str| {
            serde_yaml::from_str::<ImageProtocol>(&format!(
                "{{image_size: 224, resize: {resize}, filter: bicubic, normalisation: half}}"
            ))
        };
        assert_eq!(read("plain").unwrap().resize, Resize::Plain);
        let protocol = read("{timm_eval: {crop_pct: 0.875}}").unwrap();
        assert_eq!(protocol.resize, Resize::TimmEval { crop_pct: CropShare(875) });
        let text = serde_json::to_string(&protocol).unwrap();
        assert!(text.contains(r#""resize":{"timm_eval":{"crop_pct":0.875}}"#), "{text}");
        assert_eq!(serde_json::from_str::<ImageProtocol>(&text).unwrap(), protocol);
        for wrong in
            ["{timm_eval: {crop_pct: 0}}", "{timm_eval: {crop_pct: 1.1}}", "{timm_eval: {crop_pct: 0.87512}}"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_scale_size_is_rounded_down() {
        let scale = |share: f64, size| CropShare::try_from(share).unwrap().scale_size(size);
        assert_eq!(
            [scale(0.9, 224), scale(0.875, 224), scale(1.0, 384), scale(0.7, 224)],
            [248, 256, 384, 320]
        );
    }
}
