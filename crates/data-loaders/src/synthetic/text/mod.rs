//! A small generated language: the pretraining stream of `llama_micro`, and the eight `mini/` tasks it is tuned on.
//!
//! `world` holds the facts, `question` asks about them in eight ways, `corpus` states them in plain text. The tasks
//! have the instructions and answer formats of the datasets they are named after, but none of their data. A row is a
//! function of (set, split, index). Every question belongs to one share of all questions by a hash of its words,
//! independent of the order of its options, so no test row is a training row or part of the stream: facts are shared,
//! questions are not.

mod corpus;
mod question;
mod world;

use question::{Question, Task};

use crate::error::DataError;
use crate::random::Stream;
use crate::registry::AnswerFormat;
use crate::registry::DatasetEntry;
use crate::split::{Part, SplitCounts};
use crate::text::row::Row;
use crate::text::text_set::{TextSet, format_of as format_of_set};

/// The stream of plain text on which a bundled language model is pretrained.
#[derive(Debug, Clone, Copy)]
pub struct TextStream {
    seed: u64,
}

impl TextStream {
    /// The stream for a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The passage at an index: one to four lines of plain text.
    pub fn passage(&self, index: u64) -> String {
        corpus::passage(self.seed, index)
    }
}

impl TextSet {
    /// Generates the stand-in `mini/<name>`; deterministic in its arguments. As on disk, the eight tasks share their
    /// training and validation rows: one of each task in every run of eight.
    ///
    /// # Errors
    /// [`DataError::NotText`], [`DataError::NoStandIn`] if no task is named after the dataset.
    pub fn draw(entry: &DatasetEntry, counts: SplitCounts) -> Result<Self, DataError> {
        format_of_set(entry)?;
        let none = || DataError::NoStandIn { set: entry.name.clone() };
        let shared = |part, count| -> Result<Vec<Row>, DataError> {
            (0..count).map(|index| shared_row(part, index)).collect::<Option<_>>().ok_or_else(none)
        };
        let (train, val) = (shared(Part::Train, counts.train)?, shared(Part::Val, counts.val)?);
        let test = (0..counts.test).map(|index| row(&entry.name, Part::Test, index));
        let test: Vec<Row> = test.collect::<Option<_>>().ok_or_else(none)?;
        let mut hasher = blake3::Hasher::new();
        for (count, rows) in [
            (train.len() + val.len(), &mut train.iter().chain(&val) as &mut dyn Iterator<Item = &Row>),
            (test.len(), &mut test.iter()),
        ] {
            hasher.update(&(count as u64).to_le_bytes());
            for text in rows.flat_map(|row| [&row.instruction, &row.answer]) {
                hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
            }
        }
        hasher.update(&(counts.train as u64).to_le_bytes());
        let checksum = hasher.finalize().to_hex().to_string();
        Self::synthetic(format!("mini/{}", entry.name), entry, [train, val, test], checksum)
    }
}

/// The row of `mini/<set>` at an index; `None` if no task is named after the dataset.
fn row(set: &str, part: Part, index: usize) -> Option<Row> {
    let task = Task::of(set)?;
    let share = match part {
        Part::Train => Share::Train,
        Part::Val => Share::Val,
        Part::Test => Share::Test,
    };
    let stream = &mut Stream::new(&format!("mini/{set}"), &[part as u64, index as u64]);
    let question = ask(task, share, stream);
    let answer = format_of(task).options().nth(question.right)?;
    Some(Row::new(instruction(&question), answer))
}

/// The row at an index of the training rows shared by the eight tasks: each run of eight has one of each.
fn shared_row(part: Part, index: usize) -> Option<Row> {
    let (_, set) = Task::ALL[index % Task::ALL.len()];
    row(set, part, index / Task::ALL.len())
}

/// A share of all questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    Train,
    Val,
    Test,
}

/// A question of the task from this share: six in ten are for training, two each for validation and test.
fn ask(task: Task, share: Share, stream: &mut Stream) -> Question {
    loop {
        let question = task.ask(stream);
        let mut options = question.options.clone();
        options.sort_unstable();
        let hash = blake3::hash(format!("{} {}", question.lead, options.join("/")).as_bytes());
        let own = match hash.as_bytes()[0] % 10 {
            0..=5 => Share::Train,
            6..=7 => Share::Val,
            _ => Share::Test,
        };
        if own == share {
            return question;
        }
    }
}

fn format_of(task: Task) -> AnswerFormat {
    match task {
        Task::Boolq => AnswerFormat::TrueFalse,
        Task::Piqa => AnswerFormat::Solution,
        Task::Hellaswag => AnswerFormat::Ending,
        Task::Winogrande => AnswerFormat::Option,
        Task::Siqa | Task::ArcEasy | Task::ArcChallenge | Task::Openbookqa => AnswerFormat::Answer,
    }
}

/// The word before an option's number.
fn label(task: Task) -> &'static str {
    match format_of(task) {
        AnswerFormat::TrueFalse => "",
        AnswerFormat::Solution => "Solution",
        AnswerFormat::Ending => "Ending",
        AnswerFormat::Option => "Option",
        AnswerFormat::Answer => "Answer",
    }
}

/// The instruction of a question, worded as in the dataset that its task is named after.
fn instruction(question: &Question) -> String {
    let Question { task, lead, options, .. } = question;
    let numbered =
        || options.iter().zip(1..).map(|(option, number)| format!("{}{number}: {option}", label(*task)));
    let list = |gap: &str| numbered().collect::<Vec<_>>().join(gap);
    let answers: Vec<&str> = format_of(*task).options().take(options.len()).collect();
    let answers = answers.join("/");
    match format_of(*task) {
        AnswerFormat::TrueFalse => format!(
            "Please answer the following question with true or false, question: {lead}?\n\nAnswer format: {answers}"
        ),
        AnswerFormat::Solution => format!(
            "Please choose the correct solution to the question: {lead}\n\n{}\n\nAnswer format: {answers}",
            list("\n\n")
        ),
        AnswerFormat::Answer => format!(
            "Please choose the correct answer to the question: {lead}\n\n{}\n\nAnswer format: {answers}",
            list(" ")
        ),
        AnswerFormat::Ending => format!(
            "Please choose the correct ending to complete the given sentence: {lead}\n\n{}\n\nAnswer format: {answers}",
            list(" ")
        ),
        AnswerFormat::Option => format!(
            "Please choose the correct answer to fill in the blank to complete the given sentence: {lead}\n\n{} \
             Answer format: {answers}",
            list(" ")
        ),
    }
}
