//! One question with its answer, and the JSON files of LLM-Adapters that contain them.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::error::DataError;
use crate::io::files::{self, MAX_LIST_BYTES};
use crate::registry::AnswerFormat;
use crate::text::prompt::RESPONSE_MARK;

/// Precedes the list of options at the end of an instruction.
pub(super) const OPTIONS_MARK: &str = "Answer format: ";

/// A checked row of a file: its answer is one of the options in its instruction and occurs in its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The question, its options and the answer format.
    pub instruction: String,
    /// Further context, which a prompt shows in a section of its own; empty in all published rows.
    pub input: String,
    /// The target sentence: `the correct answer is X`.
    pub output: String,
    /// X.
    pub answer: String,
    /// How the answer is found in a generated text.
    pub(crate) kind: AnswerKind,
}

/// What an answer can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    /// An option in the instruction, in one of the published formats.
    Published,
    /// One of these, in one's own rows.
    Listed(Arc<[String]>),
    /// Any text, in one's own rows.
    Free,
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
        let (output, input) = (crate::text::prompt::continuation(answer), String::new());
        Self { instruction, input, output, answer: answer.to_owned(), kind: AnswerKind::Published }
    }

    /// The options in the instruction, in its order (`Answer format: a/b/c`), or those of one's own rows; none if the
    /// answer is free.
    pub fn options(&self) -> Vec<&str> {
        match &self.kind {
            AnswerKind::Published => listed_options(&self.instruction).collect(),
            AnswerKind::Listed(options) => options.iter().map(String::as_str).collect(),
            AnswerKind::Free => Vec::new(),
        }
    }

    /// The text that follows the prompt if an option is the answer, for comparing options by likelihood.
    pub fn continuation(&self, option: &str) -> String {
        match &self.kind {
            AnswerKind::Published => crate::text::prompt::continuation(option),
            // As in training: the output, with this option in the place of the answer.
            _ => self.output.replacen(&self.answer, option, 1),
        }
    }

    /// The answer in a generated text; `None` if there is none.
    pub fn find_answer<'a>(&'a self, generated: &'a str) -> Option<&'a str> {
        match &self.kind {
            AnswerKind::Published => self.format()?.extract(generated),
            AnswerKind::Listed(options) => first_of(options, response(generated)),
            AnswerKind::Free => {
                let text = response(generated).trim();
                let is_right = [&self.answer, &self.output].iter().any(|right| same(right, text));
                Some(if is_right { &self.answer } else { text }).filter(|text| !text.is_empty())
            }
        }
    }

    /// The label of an answer: its index among the answers of the row's format or set. A free answer has 1 if it is
    /// right.
    pub fn label(&self, answer: &str) -> Option<u32> {
        let place = match &self.kind {
            AnswerKind::Published => self.format()?.options().position(|option| option == answer),
            AnswerKind::Listed(options) => options.iter().position(|option| option == answer),
            AnswerKind::Free => Some(usize::from(answer == self.answer)),
        };
        place.map(|place| place as u32)
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
        Ok(Self { instruction, input: String::new(), output, answer, kind: AnswerKind::Published })
    }
}

/// The option that occurs first; of two at the same place, the longer one.
fn first_of<'a>(options: &'a [String], text: &str) -> Option<&'a str> {
    let places = options.iter().filter_map(|option| Some((text.find(option.as_str())?, option)));
    places.min_by_key(|(place, option)| (*place, Reverse(option.len()))).map(|(_, option)| option.as_str())
}

/// Whether two answers are the same apart from case, spaces around them and a final period.
fn same(one: &str, other: &str) -> bool {
    let plain = |text: &str| text.trim().trim_end_matches('.').to_lowercase();
    plain(one) == plain(other)
}

/// What follows the last mark of a response, if the text has any.
fn response(generated: &str) -> &str {
    generated.rsplit(RESPONSE_MARK).next().unwrap_or(generated)
}

pub(super) fn listed_options(instruction: &str) -> impl Iterator<Item = &str> {
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
