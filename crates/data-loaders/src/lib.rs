//! Data for the project: which datasets exist, where their images, rows and questions come from, and how they become
//! batches.
//!
//! `registry` holds the typed entries of `datasets/*.yaml`. `fetch` brings datasets from servers and archives into
//! folders; `sources` reads those folders through the guarded reads of `io`. `transform` turns an image file into model
//! input, and `vision` provides image datasets and batches; `text` does the same for instructions and answers, `vl` for
//! questions about images. `synthetic` generates the `mini/<set>` stand-ins and the streams that the bundled models are
//! pretrained on. `random` and `split` are shared by all of them. Nothing here depends on a model or libtorch: pixels
//! are plain `f32` in NCHW order.
//!
//! Two images of a synthetic set, as a model reads them:
//!
//! ```
//! use data_loaders::{Filter, ImageProtocol, ImageSet, Normalisation, Resize, Split, SplitCounts, dataset};
//!
//! let set = ImageSet::draw(dataset("svhn")?, SplitCounts { train: 6, val: 2, test: 4 }, 32)?;
//! let protocol = ImageProtocol {
//!     image_size: 32,
//!     resize: Resize::Plain,
//!     filter: Filter::Bilinear,
//!     normalisation: Normalisation::Half,
//! };
//! let mut pixels = Vec::new();
//! set.read(Split::Train, &[0, 5], &protocol, &mut pixels)?;
//! assert_eq!(pixels.len(), 2 * 3 * 32 * 32);
//! assert!(pixels.iter().all(|value| (-1.0..=1.0).contains(value)));
//! # Ok::<(), data_loaders::DataError>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
mod fetch;
mod io;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod probe;
mod random;
mod registry;
mod sources;
mod split;
mod synthetic;
pub mod text;
mod transform;
mod vision;
pub mod vl;

pub use error::DataError;
pub use fetch::{
    Credential, Fault, FetchError, FetchEvent, FetchRequest, Fetched, HUB, Inspect, Limits, Mirror, Patience,
    PlannedFile, Step, Watch, fetch, planned_files, remove_downloads,
};
pub use io::file_hashes::FileHashes;
pub use registry::{
    AnswerFormat, Benchmark, ClassNames, ClevrQuestion, DatasetEntry, Distribution, Download, Group,
    HubParts, HubRepository, HubTables, Metric, MiniTask, NorbFactor, Original, OriginalFormat, PoolCounts,
    Portrayal, QuestionEntry, QuestionForm, SceneQuestion, SetFolder, SharedEntry, SmallSet, SpecimenKind,
    SpriteFactor, Suite, Surface, TextEntry, TissueQuestion, catalogue, dataset, datasets, parse_dataset,
    shared_files,
};
pub use sources::layout::SplitOrigin;
pub use split::{Split, SplitCounts};
pub use synthetic::{Caption, CaptionStream, MiniQuestions, PretrainSet, TextStream};
pub use transform::augment::{
    Augmentation, Interpolation, Mix, RandAugment, Rectangle, mix_pixels, soft_targets,
};
pub use transform::protocol::{CropShare, Filter, ImageProtocol, ImageSettings, Normalisation, Resize};
pub use vision::image_set::ImageSet;
pub use vision::inspect::{Inspection, inspect};
pub use vision::loader::{Batch, Loader, LoaderRecipe, Step as BatchStep, StepPart};
pub use vision::verify::{Duplicate, Verification, verify, verify_watched};
