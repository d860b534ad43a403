//! Sets of images: one interface to real and synthetic ones, batches made ahead, and a look at every file.

pub(crate) mod image_set;
pub(crate) mod loader;
pub(crate) mod verify;
