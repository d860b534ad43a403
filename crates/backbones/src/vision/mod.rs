//! Image models: one file or folder per architecture, with its published configurations, and the classifier on top. An
//! architecture becomes known by its entry in `PUBLISHED`.

pub mod activation;
pub mod classifier;
pub mod clip;
pub mod convnext;
pub mod swin;
pub mod timm;
pub mod vit;

pub use classifier::Classifier;

use crate::Architecture;

/// A published model: its name, and its configuration.
pub(crate) type Named = (&'static str, Box<dyn Architecture>);

/// The published models of each architecture.
pub(crate) const PUBLISHED: [fn() -> Vec<Named>; 4] =
    [vit::published, swin::published, convnext::published, clip::published];
