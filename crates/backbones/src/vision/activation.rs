//! The activation function of an MLP, under the names of timm and transformers.

use san_core::memory::layers::Layers;
use san_core::memory::tape::{Operation, Value};
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
    /// The function of each element on a tape.
    pub(super) fn trace(self, layers: &Layers, x: &Value) -> Value {
        match self {
            Self::QuickGelu => {
                let Value { elements, width, .. } = *x;
                let inputs: &[&Value] = &[&layers.copied(x, elements)];
                let share = layers.tape.apply(Operation {
                    inputs,
                    elements,
                    width,
                    keeps_result: true,
                    ..Operation::default()
                });
                layers.multiply(x, &share)
            }
            _ => layers.function(x),
        }
    }

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
