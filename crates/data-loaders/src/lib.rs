//! The data side of the project: which sets exist, where their images come from, and how they become batches.
//!
//! `registry` holds the typed entries of `datasets/*.yaml`; `vtab` reads the on-disk layout; `draw` draws the
//! `mini/<set>` stand-ins; `image_set` puts both behind one interface, [`ImageSet`], which the runner reads through a
//! `protocol` ([`ImageProtocol`]) applied by `transform`. `pretrain` is the endless stream that the bundled backbones
//! learn from. Nothing here knows a model or libtorch: pixels leave as plain `f32` in NCHW order.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod draw;
mod error;
mod image_set;
mod pretrain;
mod protocol;
mod registry;
mod transform;
mod vtab;

pub use draw::{MiniTask, Portrayal, SceneQuestion, SpriteFactor, Surface, TissueQuestion};
pub use error::DataError;
pub use image_set::{ImageSet, Split, SplitCounts};
pub use pretrain::PretrainSet;
pub use protocol::{Filter, ImageProtocol, Normalisation, Resize};
pub use registry::{
    ClassNames, ClevrQuestion, DatasetEntry, Download, Group, Metric, NorbFactor, Original, OriginalFormat,
    PoolCounts, Suite, catalogue, dataset, datasets, parse_dataset,
};
