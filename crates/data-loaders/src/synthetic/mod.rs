//! Everything that this program makes itself: the `mini/<set>` stand-ins and the streams that the bundled models learn from.
//!
//! The real data path does not know this room. Stand-ins enter it through the constructors of the sets (`ImageSet::draw`,
//! `TextSet::draw`, `QuestionSet::draw`), which are defined here.

mod captions;
mod draw;
mod pretrain;
mod questions;
mod text;

pub use captions::{Caption, CaptionStream};
pub use pretrain::PretrainSet;
pub use questions::MiniQuestions;
pub use text::TextStream;
