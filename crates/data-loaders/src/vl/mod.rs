//! Vision and language: conversations and questions about images, their prompts, and the scoring of free answers.
//!
//! `benchmark` (with `table`) reads the seven sets that LLaVA-1.5 is read on and `local` three small ones, `synthetic` makes
//! seven; all give a [`Question`] with its prompt and its [`Key`], and [`QuestionSet`] puts them behind one interface.
//! `conversation` reads LLaVA's training files. `template` makes
//! a conversation or a question into one text whose answers alone are trained on, `picture` an image into the tower's
//! input. `normalise`, `judge` and `tally` are the benchmarks' own rules of scoring, `prior` is what they give to a reader
//! that never looks; `submission` writes what their servers read.

mod benchmark;
pub(crate) mod conversation;
pub(crate) mod judge;
mod local;
mod normalise;
pub(crate) mod picture;
mod prior;
pub(crate) mod question;
pub(crate) mod question_set;
mod rows;
mod submission;
mod table;
mod tally;
pub(crate) mod template;

pub use benchmark::Answers;
pub use conversation::{
    Conversation, ConversationFile, Origin, PLACEHOLDER, Turn, read_conversations, read_mixture,
};
pub use judge::{Judgement, Key, option_letter, vqa_accuracy};
pub use local::SmallPart;
pub use normalise::{evalai_answer, vqa_answer};
pub use picture::{Picture, PictureProtocol, Square};
pub use prior::question_only_prior;
pub use question::{OPTION_LETTER, Question, SHORT_ANSWER, UNANSWERABLE};
pub use question_set::{QuestionSet, QuestionSource, QuestionSuite};
pub use submission::{Answered, SubmissionError, mmbench_submission, vizwiz_submission, vqav2_submission};
pub use tally::{Tally, YesNoCounts};
pub use template::{ImageTokens, Rendered, Sequence, Template, Token};
