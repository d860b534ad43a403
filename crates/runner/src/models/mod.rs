//! Models in memory, and how texts and images become their input.

pub mod backbone;
pub mod base;
pub mod input;
pub mod language;
pub mod named;
pub(crate) mod picture_text;
pub mod place;
pub mod published;
pub mod reader;

pub use backbone::LoadedBackbone;
pub use base::BaseModel;
pub use language::LoadedLanguageModel;
pub use named::NamedArchitecture;
