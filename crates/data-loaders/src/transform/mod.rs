//! From an image file to model input: decoding, resizing, augmentation, normalisation.

pub(crate) mod augment;
pub(crate) mod decode;
pub(crate) mod protocol;
pub(crate) mod resize;
