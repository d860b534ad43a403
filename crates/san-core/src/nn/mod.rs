//! What a model is built from: parameters that may be trained, sites with adapters, norms, residual branches, and the
//! builder that resolves a published name to whatever a method put there.

pub mod attachment;
pub mod branch;
pub mod dropout;
pub mod parameter;
pub mod pass;
pub mod site;
