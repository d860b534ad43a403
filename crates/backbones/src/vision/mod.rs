//! Models of images: one architecture a file, each with its published configurations, and the classifier on top.

pub mod classifier;
pub mod clip;
pub mod convnext;
pub mod swin;
pub mod vit;

pub use classifier::Classifier;
