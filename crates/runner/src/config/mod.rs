//! What a user writes: experiments with their profiles, protocols and searches, and what the command line selects of
//! them.

mod choice;
pub mod experiment;
pub mod overrides;
pub mod search;
mod selection;

pub use choice::MethodChoice;
pub use selection::Selection;
