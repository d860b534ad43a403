//! How an image becomes numbers: the choices in which published codes differ, as named fields of a configuration.
//!
//! VPT and SSF feed VTAB without ImageNet statistics while NOAH and FacT use them, so a table is only comparable with
//! its protocol beside it; the runner stores this structure with every result. `transform` carries it out.

use serde::{Deserialize, Serialize};

/// The deterministic path from a decoded image to the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageProtocol {
    /// Side of the square input, in pixels.
    pub image_size: u32,
    /// How the image is brought to that size.
    pub resize: Resize,
    /// The interpolation kernel.
    pub filter: Filter,
    /// The affine map applied to values in 0..=1.
    pub normalisation: Normalisation,
}

/// How an image is brought to the input size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Straight to a square, the aspect ratio not kept: the convention of VTAB (Zhai et al. 2019, section 3).
    Plain,
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

/// Channel statistics that are taken off; values come as 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// Values stay in 0..=1.
    None,
    /// Mean and deviation 0.5 in every channel, so values lie in -1..=1 (timm's "inception" statistics, which the
    /// augreg ViT weights use).
    Half,
    /// ImageNet's channel means and deviations, as torchvision and timm give them.
    Imagenet,
    /// The statistics of CLIP's training images (Radford et al. 2021), which its towers expect.
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
