//! Vision and language: conversations and questions about images, their prompts, and the scoring of free-form answers.
//!
//! `benchmark` (with `table`) reads the seven datasets that LLaVA-1.5 is evaluated on and `local` three small ones, `own` files of one's own,
//! `synthetic` generates seven; all yield a [`Question`] with its prompt and its [`Key`], and [`QuestionSet`] is their
//! common interface; a [`QuestionSuite`] combines them with a training mixture. `conversation` reads LLaVA's training files. `template` renders a conversation or question as one
//! text in which only the answers are trained on, `picture` converts an image to the vision tower's input. `normalise`,
//! `judge` and `tally` implement the benchmarks' scoring rules, `prior` computes the score of a model that ignores the
//! image; `submission` writes the files for their servers.

mod benchmark;
pub(crate) mod conversation;
mod image_hashes;
pub(crate) mod judge;
mod local;
mod normalise;
mod own;
pub(crate) mod picture;
mod prior;
pub(crate) mod question;
pub(crate) mod question_set;
pub(crate) mod question_suite;
mod rows;
mod submission;
mod table;
mod tally;
pub(crate) mod template;

pub use benchmark::Answers;
pub use conversation::{
    Conversation, ConversationFile, Origin, PLACEHOLDER, Turn, read_conversations, read_mixture,
};
pub use image_hashes::pictures_checksum;
pub use judge::{Judgement, Key, option_letter, vqa_accuracy};
pub use local::SmallPart;
pub use normalise::{evalai_answer, vqa_answer};
pub use own::OwnRows;
pub use picture::{Picture, PictureProtocol, PictureSettings, Square};
pub use prior::question_only_prior;
pub use question::{OPTION_LETTER, Question, SHORT_ANSWER, UNANSWERABLE};
pub use question_set::{QuestionSet, QuestionSource};
pub use question_suite::QuestionSuite;
pub use submission::{Answered, SubmissionError, mmbench_submission, vizwiz_submission, vqav2_submission};
pub use tally::{Tally, YesNoCounts};
pub use template::{ImageTokens, Rendered, Sequence, Template, Token};
