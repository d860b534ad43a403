//! Image models: one file or folder per architecture, with its published configurations, and the classifier on top.

pub mod classifier;
pub mod clip;
pub mod convnext;
pub mod swin;
pub mod vit;

pub use classifier::Classifier;
