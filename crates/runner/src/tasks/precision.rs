//! The precision that a run is trained and evaluated in.

use serde::{Deserialize, Serialize};
use tch::Kind;

/// The dtype of frozen weights and activations. Trained tensors, the optimiser, gradients of trained tensors, sums inside
/// norms and softmax, logits and losses are f32 in each case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Single precision, except that a GPU's products round their inputs to 10 bits; the same as f32 on a processor.
    Tf32,
    /// 8 bits: half the memory, and faster if the processor or GPU has bf16 products.
    Bf16,
}

impl Precision {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
    pub(super) fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// The dtype of tensors.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 | Self::Tf32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }

    /// Its name in a protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}
