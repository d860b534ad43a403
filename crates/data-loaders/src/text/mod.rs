//! Sets in words: rows of instruction and answer, the prompts made of them, and how a generated answer is judged.
//!
//! A row is read by `row` (LLM-Adapters' files) or made by `synthetic` (the eight `mini/` tasks); [`TextSet`] puts both
//! behind one interface. `prompt` has the exact texts of training and of evaluation, `answer` the rules by which an
//! answer is found in a generated text, `score` the rates. `example` cuts token ids to a length and masks what is not
//! trained on, `batch` groups them by length. Token ids come from outside: nothing here knows a tokenizer.

mod answer;
mod batch;
mod example;
pub(crate) mod prompt;
pub(crate) mod row;
mod score;
pub(crate) mod text_set;

pub use batch::{BatchLimits, PaddedBatch, PaddingSide, evaluation_batches, training_batches};
pub use example::{Example, ExampleProtocol, MASKED, Truncation, examples};
pub use prompt::{RESPONSE_MARK, continuation, evaluation_prompt, training_prompt, training_text};
pub use row::Row;
pub use score::{Score, best_option, unweighted_average};
pub use text_set::{RowLimits, TextSet, TextSource, suite_checksum};
