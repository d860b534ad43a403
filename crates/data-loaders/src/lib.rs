//! Data for the project: which datasets exist, where their images, rows and questions come from, and how they become
//! batches.
//!
//! `registry` holds the typed entries of `datasets/*.yaml`. `fetch` brings datasets from servers and archives into
//! folders; `sources` reads those folders through the guarded reads of `io`. `transform` turns an image file into model
//! input, and `vision` provides image datasets and batches; `text` does the same for instructions and answers, `vl` for
//! questions about images. `synthetic` generates the `mini/<set>` stand-ins and the streams that the bundled models are
//! pretrained on. `random` and `split` are shared by all of them. Nothing here depends on a model or libtorch: pixels
//! are plain `f32` in NCHW order.
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
    Credential, Fault, FetchError, FetchEvent, FetchRequest, Fetched, Inspect, Limits, Mirror, Patience,
    PlannedFile, Step, Watch, fetch, planned_files, remove_downloads,
};
pub use io::file_hashes::FileHashes;
pub use registry::{
    AnswerFormat, Benchmark, ClassNames, ClevrQuestion, DatasetEntry, Distribution, Download, Group, Metric,
    MiniTask, NorbFactor, Original, OriginalFormat, PoolCounts, Portrayal, QuestionEntry, QuestionForm,
    SceneQuestion, SmallSet, SpecimenKind, SpriteFactor, Suite, Surface, TextEntry, TissueQuestion,
    catalogue, dataset, datasets, parse_dataset,
};
pub use sources::layout::SplitOrigin;
pub use split::{Split, SplitCounts};
pub use synthetic::{Caption, CaptionStream, MiniQuestions, PretrainSet, TextStream};
pub use transform::augment::{
    Augmentation, Interpolation, Mix, RandAugment, Rectangle, mix_pixels, soft_targets,
};
pub use transform::protocol::{CropShare, Filter, ImageProtocol, Normalisation, Resize};
pub use vision::image_set::ImageSet;
pub use vision::loader::{Batch, Loader, LoaderRecipe, Step as BatchStep};
pub use vision::verify::{Duplicate, Verification, verify, verify_watched};
