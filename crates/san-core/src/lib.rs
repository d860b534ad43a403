//! Parameter-efficient fine-tuning over sites.
//!
//! A backbone describes itself as a [`Layout`]: its tensors, its [`layout::SiteSpec`]s (frozen
//! projections with a role and an anterior site) and its norms. A [`methods::Method`] never names a
//! backbone: from a layout it says which [`trainables::TrainableSpec`]s it needs, and, once these
//! are allocated, it yields an [`Attachment`]: adapters on sites, scales on norms, and tensors that
//! replace frozen ones. The backbone is then built over frozen [`Weights`] and the attachment.
//!
//! A method may also put bottlenecks beside residual branches and prompts among the tokens ([`branch`]).
//!
//! Every trainable tensor carries a leading stack dimension K: K runs share one pass over the
//! frozen weights, their batches stacked one behind the other. One run alone has K = 1.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod adapter_file;
pub mod attachment;
pub mod branch;
pub mod dropout;
pub mod error;
pub mod files;
pub mod init;
pub mod layout;
pub mod merge;
pub mod methods;
pub mod optimiser;
pub mod parameter;
pub mod pass;
pub mod peft_format;
pub mod random;
pub mod schedule;
pub mod site;
pub mod trainables;
pub mod weights;
pub mod wiring;

pub use attachment::Attachment;
pub use error::Error;
pub use layout::Layout;
pub use trainables::Trainables;
pub use weights::Weights;
