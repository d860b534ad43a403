//! Models in memory, and how texts and pictures become their input.

pub mod language;
pub(crate) mod picture_text;
pub mod published;
pub mod reader;
