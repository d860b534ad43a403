//! The data side of the project: which sets exist, where their images come from, and how they become batches.
//!
//! `registry` holds the typed entries of `datasets/*.yaml`; `layout` reads what lies in a set's folder, with `original`
//! for what its authors distribute and `formats` for the containers; `split` draws the parts that nobody published;
//! `draw` draws the `mini/<set>` stand-ins; `image_set` puts all behind one interface, [`ImageSet`], which the runner reads through a
//! `protocol` ([`ImageProtocol`]) applied by `decode` and `transform`; `augment` changes training images at random, and
//! `loader` makes batches ahead of the steps that use them. `pretrain` is the endless stream that the bundled backbones
//! learn from; `text` is the side of sets in words, `vl` that of images and words; `fetch` brings sets from servers and
//! archives into folders; `verify` looks at every image of a set and writes its `manifest`. Nothing here knows a model
//! or libtorch: pixels leave as plain `f32` in NCHW order.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod augment;
mod decode;
mod draw;
mod error;
mod fetch;
mod formats;
mod image_set;
mod layout;
mod loader;
mod manifest;
mod original;
mod pretrain;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod probe;
mod protocol;
mod registry;
mod sample;
mod split;
pub mod text;
mod transform;
mod verify;
pub mod vl;

pub use augment::{Augmentation, Interpolation, Mix, RandAugment, Rectangle, mix_pixels, soft_targets};
pub use draw::{MiniTask, Portrayal, SceneQuestion, SpecimenKind, SpriteFactor, Surface, TissueQuestion};
pub use error::DataError;
pub use fetch::{
    Credential, Fault, FetchError, FetchEvent, FetchRequest, Fetched, Inspect, Limits, Mirror, Patience,
    PlannedFile, Step, Watch, fetch, planned_files, remove_downloads,
};
pub use image_set::{ImageSet, Split, SplitCounts};
pub use layout::SplitOrigin;
pub use loader::{Batch, Loader, LoaderRecipe, Step as BatchStep};
pub use pretrain::PretrainSet;
pub use protocol::{CropShare, Filter, ImageProtocol, Normalisation, Resize};
pub use registry::{
    ClassNames, ClevrQuestion, DatasetEntry, Distribution, Download, Group, Metric, NorbFactor, Original,
    OriginalFormat, PoolCounts, QuestionEntry, QuestionForm, Suite, TextEntry, catalogue, dataset, datasets,
    parse_dataset,
};
pub use verify::{Duplicate, Verification, verify, verify_watched};
