//! Building blocks of a model: parameters that may be trained, sites with adapters, norms, residual branches,
//! and the builder that resolves a checkpoint name to the frozen tensor or to what a method put in its place.

pub mod branch;
pub mod builder;
pub mod dropout;
pub mod parameter;
pub mod pass;
pub mod site;
