//! The prompts for training and evaluation, identical to those published by LLM-Adapters down to the spaces.
//!
//! The two wrappers differ: the training one has two spaces after its first line and a line of spaces before the
//! response, the evaluation one has one space and an empty line. Both are indented by sixteen spaces.

use crate::text::row::Row;

/// Precedes the response in both wrappers; an answer is extracted after its last occurrence.
pub const RESPONSE_MARK: &str = "### Response:";

const TASK: &str = "Below is an instruction that describes a task. Write a response that appropriately completes the request.";
const TASK_WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.";
const INDENT: &str = "                ";

/// The prompt of a training text: everything except the output.
pub fn training_prompt(row: &Row) -> String {
    let instruction = &row.instruction;
    if !row.input.is_empty() {
        let input = &row.input;
        return format!(
            "{TASK_WITH_INPUT} \n\n{INDENT}### Instruction:\n{INDENT}{instruction}\n{INDENT}\n{INDENT}### Input:\n{INDENT}{input}\n{INDENT}\n{INDENT}{RESPONSE_MARK}\n{INDENT}"
        );
    }
    format!(
        "{TASK}  \n\n{INDENT}### Instruction:\n{INDENT}{instruction}\n{INDENT}\n{INDENT}{RESPONSE_MARK}\n{INDENT}"
    )
}

/// The full training text of a row.
pub fn training_text(row: &Row) -> String {
    training_prompt(row) + &row.output
}

/// The text that a model continues in evaluation.
pub fn evaluation_prompt(row: &Row) -> String {
    let instruction = &row.instruction;
    if !row.input.is_empty() {
        let input = &row.input;
        return format!(
            "{TASK_WITH_INPUT} \n\n{INDENT}### Instruction:\n{INDENT}{instruction}\n\n{INDENT}### Input:\n{INDENT}{input}\n\n{INDENT}{RESPONSE_MARK}\n{INDENT}"
        );
    }
    format!("{TASK} \n\n{INDENT}### Instruction:\n{INDENT}{instruction}\n\n{INDENT}{RESPONSE_MARK}\n{INDENT}")
}

/// The continuation that is scored when options are compared by likelihood.
pub fn continuation(option: &str) -> String {
    format!("the correct answer is {option}")
}
