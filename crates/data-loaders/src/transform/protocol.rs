//! The preprocessing of images: the choices in which published code differs, as named fields of a configuration.
//!
//! VPT and SSF do not use ImageNet statistics for VTAB while NOAH and FacT do, so results are only comparable under the
//! same protocol; the runner stores this structure with every result. `transform` implements it.

use std::fmt;
use std::hash::{Hash, Hasher};

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
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub normalisation: Normalisation,
}

/// The fields of an [`ImageProtocol`] that are given; the others are the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageSettings {
    /// Side of the square input, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<u32>,
    /// How the image is resized to that size.
    #[serde(skip_serializing_if = "Option::is_none", with = "serde_yaml::with::singleton_map")]
    pub resize: Option<Resize>,
    /// The interpolation kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// The affine map applied to values in 0..=1.
    #[serde(skip_serializing_if = "Option::is_none", with = "serde_yaml::with::singleton_map")]
    pub normalisation: Option<Normalisation>,
}

impl ImageSettings {
    /// Whether no field is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The protocol, if every field is given.
    ///
    /// # Errors
    /// The name of the first field that is not.
    pub fn complete(self) -> Result<ImageProtocol, &'static str> {
        Ok(ImageProtocol {
            image_size: self.image_size.ok_or("image_size")?,
            resize: self.resize.ok_or("resize")?,
            filter: self.filter.ok_or("filter")?,
            normalisation: self.normalisation.ok_or("normalisation")?,
        })
    }

    /// With the fields of `model` in place of those that are not given.
    #[must_use]
    pub fn or(self, model: ImageProtocol) -> Self {
        Self {
            image_size: self.image_size.or(Some(model.image_size)),
            resize: self.resize.or(Some(model.resize)),
            filter: self.filter.or(Some(model.filter)),
            normalisation: self.normalisation.or(Some(model.normalisation)),
        }
    }
}

impl From<ImageProtocol> for ImageSettings {
    fn from(protocol: ImageProtocol) -> Self {
        Self::default().or(protocol)
    }
}

impl fmt::Display for ImageProtocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image_size, resize, filter, normalisation } = self;
        write!(formatter, "{image_size} px, ")?;
        match resize {
            Resize::Plain => write!(formatter, "resized to a square")?,
            Resize::TimmEval { crop_pct } => {
                write!(formatter, "centre crop of {} of the shorter side", f64::from(*crop_pct))?;
            }
        }
        let filter = if *filter == Filter::Bicubic { "bicubic" } else { "bilinear" };
        let (mean, std) = normalisation.statistics();
        write!(formatter, ", {filter}, mean {mean:?}, std {std:?}")
    }
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

/// A ratio in millionths: above 0 and at most 1. Files have it as a number, 0.875.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct CropShare(u32);

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
        let millionths = (share * 1e6).round();
        if (1e3..=1e6).contains(&millionths) && (millionths / 1e6 - share).abs() < 1e-9 {
            Ok(Self(millionths as u32))
        } else {
            Err(format!("a crop share of {share} is not a number of up to six decimals between 0.001 and 1"))
        }
    }
}

impl From<CropShare> for f64 {
    fn from(share: CropShare) -> Self {
        Self::from(share.0) / 1e6
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
    /// Others.
    Statistics(Statistics),
}

/// Means and standard deviations of the channels red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    mean: Channels,
    std: Channels,
}

/// A finite number for each channel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "[f64; 3]", into = "[f64; 3]")]
struct Channels([f64; 3]);

impl TryFrom<[f64; 3]> for Channels {
    type Error = String;

    fn try_from(values: [f64; 3]) -> Result<Self, String> {
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(format!("{value} is not a mean or standard deviation")),
            None => Ok(Self(values)),
        }
    }
}

impl From<Channels> for [f64; 3] {
    fn from(channels: Channels) -> Self {
        channels.0
    }
}

// None of them is NaN.
impl Eq for Channels {}

impl Hash for Channels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|value| value.to_bits().hash(state));
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the dtype of the network's input")]
fn single(values: [f64; 3]) -> [f32; 3] {
    values.map(|value| value as f32)
}

impl Normalisation {
    /// The normalisation by these means and standard deviations, by its name if it has one.
    ///
    /// # Errors
    /// A clause, if one of them is not finite, or a standard deviation is not above 0.
    pub fn of(mean: [f64; 3], std: [f64; 3]) -> Result<Self, String> {
        let named = [Self::None, Self::Half, Self::Imagenet, Self::Clip];
        if let Some(named) = named.into_iter().find(|one| one.statistics() == (single(mean), single(std))) {
            return Ok(named);
        }
        if let Some(wrong) = std.iter().find(|deviation| deviation.is_nan() || **deviation <= 0.0) {
            return Err(format!("a standard deviation is {wrong}"));
        }
        Ok(Self::Statistics(Statistics { mean: mean.try_into()?, std: std.try_into()? }))
    }

    /// The means and the standard deviations of the three channels (red, green, blue).
    pub fn statistics(self) -> ([f32; 3], [f32; 3]) {
        match self {
            Self::None => ([0.0; 3], [1.0; 3]),
            Self::Half => ([0.5; 3], [0.5; 3]),
            Self::Imagenet => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            Self::Statistics(Statistics { mean, std }) => (single(mean.0), single(std.0)),
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
        assert_eq!(protocol.resize, Resize::TimmEval { crop_pct: CropShare(875_000) });
        let text = serde_json::to_string(&protocol).unwrap();
        assert!(text.contains(r#""resize":{"timm_eval":{"crop_pct":0.875}}"#), "{text}");
        assert_eq!(serde_json::from_str::<ImageProtocol>(&text).unwrap(), protocol);
        for wrong in [
            "{timm_eval: {crop_pct: 0}}",
            "{timm_eval: {crop_pct: 1.1}}",
            "{timm_eval: {crop_pct: 0.87512345}}",
        ] {
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

    #[test]
    fn statistics_without_a_name_are_written_and_read_as_numbers() {
        let imagenet = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        assert_eq!(Normalisation::of(imagenet.0, imagenet.1), Ok(Normalisation::Imagenet));
        let own = Normalisation::of([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]).unwrap();
        assert_eq!(own.statistics(), ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]));
        let settings = ImageSettings { normalisation: Some(own), ..ImageSettings::default() };
        let text = serde_yaml::to_string(&settings).unwrap();
        assert!(text.contains("statistics:") && text.contains("0.25"), "{text}");
        assert_eq!(serde_yaml::from_str::<ImageSettings>(&text).unwrap(), settings);
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<ImageSettings>(&json).unwrap(), settings);
        // A run is named by the hash of its JSON, which is computed again from the file.
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), serde_json::json!(settings));
        assert_eq!(settings.complete(), Err("image_size"));
        assert!(Normalisation::of([0.5; 3], [0.0, 1.0, 1.0]).is_err());
        assert!(Normalisation::of([f64::NAN; 3], [1.0; 3]).is_err());
    }

    #[test]
    fn settings_that_are_given_count_more_than_the_models() {
        let model = ImageProtocol {
            image_size: 224,
            resize: Resize::Plain,
            filter: Filter::Bicubic,
            normalisation: Normalisation::Imagenet,
        };
        let given: ImageSettings = serde_yaml::from_str("{image_size: 32, normalisation: half}").unwrap();
        let expected = ImageProtocol { image_size: 32, normalisation: Normalisation::Half, ..model };
        assert_eq!(given.or(model).complete(), Ok(expected));
    }
}
