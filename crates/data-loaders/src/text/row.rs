//! One question with its answer, and the JSON files of LLM-Adapters that contain them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::DataError;
use crate::io::files::{self, MAX_LIST_BYTES};
use crate::registry::AnswerFormat;

/// Precedes the list of options at the end of an instruction.
const OPTIONS_MARK: &str = "Answer format: ";

/// A checked row of a file: its answer is one of the options in its instruction and occurs in its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The question, its options and the answer format.
    pub instruction: String,
    /// The target sentence: `the correct answer is X`.
    pub output: String,
    /// X.
    pub answer: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRow {
    instruction: Option<String>,
    #[serde(default)]
    input: String,
    output: Option<String>,
    answer: Option<String>,
}

impl Row {
    /// A row with the standard output.
    pub(crate) fn new(instruction: String, answer: &str) -> Self {
        let output = crate::text::prompt::continuation(answer);
        Self { instruction, output, answer: answer.to_owned() }
    }

    /// The options in the instruction, in its order (`Answer format: a/b/c`); never empty.
    pub fn options(&self) -> Vec<&str> {
        listed_options(&self.instruction).collect()
    }

    /// The format of the answer.
    pub fn format(&self) -> Option<AnswerFormat> {
        AnswerFormat::of_answer(&self.answer)
    }

    /// Checks a row of a dataset (`format`), or of a file shared by all datasets (`None`); the error is a clause.
    fn check(stored: StoredRow, format: Option<AnswerFormat>) -> Result<Self, String> {
        let present = |field: Option<String>, name: &str| match field {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(format!("it has no {name}")),
        };
        let instruction = present(stored.instruction, "instruction")?;
        let answer = present(stored.answer, "answer")?;
        // It is empty in all published rows, and the prompts have no place for it.
        if !stored.input.is_empty() {
            return Err(
                "it has an input in addition to its instruction, which the prompts do not support".to_owned()
            );
        }
        let output = present(stored.output, "output")?;
        let own = AnswerFormat::of_answer(&answer);
        let known = own.filter(|own| format.is_none_or(|format| *own == format));
        let Some(known) = known else {
            let formats = format.map_or(AnswerFormat::ALL.to_vec(), |format| vec![format]);
            let options: Vec<_> = formats.into_iter().flat_map(AnswerFormat::options).collect();
            return Err(format!("its answer `{answer}` is not one of {}", options.join(", ")));
        };
        if !listed_options(&instruction).any(|option| option == answer) {
            return Err(format!(
                "its instruction does not list the answer `{answer}` in a last line `{OPTIONS_MARK}...`"
            ));
        }
        if known.extract(&output) != Some(&answer) {
            return Err(format!("its output `{output}` does not contain its answer `{answer}`"));
        }
        Ok(Self { instruction, output, answer })
    }
}

fn listed_options(instruction: &str) -> impl Iterator<Item = &str> {
    instruction.rsplit_once(OPTIONS_MARK).map_or("", |(_, options)| options.trim_end()).split('/')
}

/// Reads a file of rows: of one dataset, whose answers have the given format, or of several (`None`).
///
/// # Errors
/// [`DataError::Read`], [`DataError::BadFile`] if it is not a JSON array, [`DataError::BadRow`].
pub(super) fn read_rows(
    set: &str,
    path: &Path,
    format: Option<AnswerFormat>,
) -> Result<(Vec<Row>, blake3::Hash), DataError> {
    let bytes = files::read(path, MAX_LIST_BYTES).map_err(|source| DataError::Read {
        set: set.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let bad = |reason: String| DataError::BadFile { set: set.to_owned(), path: path.to_owned(), reason };
    let values: Vec<Value> = serde_json::from_slice(&bytes)
        .map_err(|error| bad(format!("it is not a JSON array of rows: {error}")))?;
    if values.is_empty() {
        return Err(bad("it has no rows".to_owned()));
    }
    let rows = values.into_iter().zip(1..).map(|(value, row)| {
        let stored = StoredRow::deserialize(value).map_err(|error| error.to_string());
        stored.and_then(|stored| Row::check(stored, format)).map_err(|reason| DataError::BadRow {
            set: set.to_owned(),
            path: path.to_owned(),
            row,
            reason,
        })
    });
    Ok((rows.collect::<Result<_, _>>()?, blake3::hash(&bytes)))
}
