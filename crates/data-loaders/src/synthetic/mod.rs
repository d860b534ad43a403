//! Synthetic data: the `mini/<set>` stand-ins and the streams that the bundled models are pretrained on.
//!
//! The real data path does not depend on this module. Stand-ins enter it through the constructors of the datasets
//! (`ImageSet::draw`, `TextSet::draw`, `QuestionSet::draw`), which are defined here.

mod captions;
mod draw;
mod pretrain;
mod questions;
mod text;

pub use captions::{Caption, CaptionStream};
pub use pretrain::PretrainSet;
pub use questions::MiniQuestions;
pub use text::TextStream;
