//! Models of images and text.

pub mod llava;
