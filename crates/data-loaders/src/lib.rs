//! The data side of the project: which sets exist, where their images, rows and questions come from, and how they become
//! batches.
//!
//! `registry` holds the typed entries of `datasets/*.yaml`. `fetch` brings sets from servers and archives into folders;
//! `sources` reads what lies there, through the guarded reads of `io`. `transform` turns an image file into a model's
//! input, and `vision` makes sets and batches of images; `text` does the same for instructions and answers, `vl` for
//! questions about images. `synthetic` makes the `mini/<set>` stand-ins and the streams that the bundled models learn
//! from. `random` and `split` are what all of them share. Nothing here knows a model or libtorch: pixels leave as plain
//! `f32` in NCHW order.
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
