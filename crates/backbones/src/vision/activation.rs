//! The activation function of an MLP, under the names of timm and transformers.

use serde::{Deserialize, Serialize};
use tch::Tensor;

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Exact GELU.
    #[default]
    Gelu,
    /// GELU by its approximation with tanh.
    GeluTanh,
    /// x sigmoid(1.702 x), as in OpenAI's CLIP.
    QuickGelu,
    /// x sigmoid(x).
    Silu,
}

impl Activation {
    /// The function of each element.
    pub(super) fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
            Self::Silu => x.silu(),
        }
    }
}
