//! Vision and language: questions about images, their prompts, and the scoring of free answers, for the seven sets that
//! LLaVA-1.5 is read on.
//!
//! `normalise`, `judge` and `tally` are the benchmarks' own rules; `submission` writes what their servers read.

mod judge;
mod normalise;
mod submission;
mod tally;

pub use judge::{Judgement, Key, option_letter, vqa_accuracy};
pub use normalise::{evalai_answer, vqa_answer};
pub use submission::{Answered, SubmissionError, mmbench_submission, vizwiz_submission, vqav2_submission};
pub use tally::{Tally, YesNoCounts};
