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
//!
//! LoRA on a model with a single projection, merged into its weight:
//!
//! ```
//! use san_core::spec::model::{Role, SiteSpec};
//! use san_core::{ModelSpec, Weights, adapters::merge::merge, methods, nn::builder::ModelBuilder};
//! use tch::{Device, Kind, Tensor};
//!
//! let mut model_spec = ModelSpec::new("tiny", "head", 3);
//! let site = SiteSpec::linear("query", Role::Q, 4, 3);
//! model_spec.site(site.clone());
//! let weights = Weights::random(&model_spec, 0)?;
//!
//! let options = serde_json::json!({"rank": 2, "targets": ["q"]}).as_object().cloned();
//! let lora = methods::find("lora", options.unwrap_or_default())?;
//! let (classes, seeds) = (5, [1]);
//! let (trainables, adapters) =
//!     methods::prepare(&*lora, &[], &model_spec, &weights, classes, &seeds, Device::Cpu)?;
//! let query = ModelBuilder::new(&weights, &adapters).site(&site)?;
//! let y = query.forward(&Tensor::ones([2, 4], (Kind::Float, Device::Cpu)));
//! assert_eq!(y.size(), [2, 3]);
//!
//! let merged = merge(&model_spec, &weights, &adapters, &trainables, 0)?;
//! assert_eq!(merged.get("query.weight")?.size(), [3, 4]);
//! # Ok::<(), san_core::Error>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod adapters;
pub mod error;
pub mod io;
pub mod memory;
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
