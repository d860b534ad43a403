//! Parameter-efficient fine-tuning in terms of sites.
//!
//! A backbone describes itself as a [`ModelSpec`]: its tensors, its [`spec::model::SiteSpec`]s (frozen projections
//! with a role and an anterior site) and its norms. A [`methods::Method`] never names a backbone: from a model spec
//! it lists the [`spec::trainable::TrainableSpec`]s it needs and, once these are allocated, returns an
//! [`AdapterSet`]: adapters on sites, scales on norms, and tensors that replace frozen ones. The backbone is
//! then built from frozen [`Weights`] and the adapter set.
//!
//! A method may also add bottlenecks to residual branches and prompts to the tokens ([`nn::branch`]).
//!
//! Every trainable tensor has a leading stack dimension K: K runs share one pass over the frozen weights, with
//! their batches concatenated. A single run has K = 1.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod adapters;
pub mod error;
pub mod io;
pub mod methods;
pub mod nn;
pub mod random;
pub mod spec;
pub mod train;
pub mod weights;

pub use error::Error;
pub use nn::builder::AdapterSet;
pub use spec::model::ModelSpec;
pub use train::trainables::Trainables;
pub use weights::Weights;
