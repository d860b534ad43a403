//! Parameter-efficient fine-tuning over sites.
//!
//! A backbone describes itself as a [`Layout`]: its tensors, its [`spec::model::SiteSpec`]s (frozen
//! projections with a role and an anterior site) and its norms. A [`methods::Method`] never names a
//! backbone: from a layout it says which [`spec::trainable::TrainableSpec`]s it needs, and, once these
//! are allocated, it yields an [`Attachment`]: adapters on sites, scales on norms, and tensors that
//! replace frozen ones. The backbone is then built over frozen [`Weights`] and the attachment.
//!
//! A method may also put bottlenecks beside residual branches and prompts among the tokens ([`nn::branch`]).
//!
//! Every trainable tensor carries a leading stack dimension K: K runs share one pass over the
//! frozen weights, their batches stacked one behind the other. One run alone has K = 1.

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
pub use nn::attachment::Attachment;
pub use spec::model::Layout;
pub use train::trainables::Trainables;
pub use weights::Weights;
