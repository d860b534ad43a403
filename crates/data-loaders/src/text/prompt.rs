//! The texts that a model is trained on and asked with, to the blank as LLM-Adapters publishes them.
//!
//! The two wrappers differ: that of training has two blanks behind its first line and a line of blanks before the
//! response, that of evaluation one blank and an empty line. Both indent by sixteen blanks.

use crate::text::row::Row;

/// What stands before a response in both wrappers; an answer is looked for behind the last one.
pub const RESPONSE_MARK: &str = "### Response:";

const TASK: &str = "Below is an instruction that describes a task. Write a response that appropriately completes the request.";
const INDENT: &str = "                ";

/// The prompt of a training text: all of it but the output.
pub fn training_prompt(row: &Row) -> String {
    let instruction = &row.instruction;
    format!(
        "{TASK}  \n\n{INDENT}### Instruction:\n{INDENT}{instruction}\n{INDENT}\n{INDENT}{RESPONSE_MARK}\n{INDENT}"
    )
}

/// The whole text of a row in training.
pub fn training_text(row: &Row) -> String {
    training_prompt(row) + &row.output
}

/// The text that a model continues in evaluation.
pub fn evaluation_prompt(row: &Row) -> String {
    let instruction = &row.instruction;
    format!("{TASK} \n\n{INDENT}### Instruction:\n{INDENT}{instruction}\n\n{INDENT}{RESPONSE_MARK}\n{INDENT}")
}

/// The continuation by which an option is scored when options are compared by likelihood.
pub fn continuation(option: &str) -> String {
    format!("the correct answer is {option}")
}
