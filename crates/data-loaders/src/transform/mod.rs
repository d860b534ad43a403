//! From an image file to a model's input: decoding, resizing, random changes, normalisation.

pub(crate) mod augment;
pub(crate) mod decode;
pub(crate) mod protocol;
pub(crate) mod resize;
