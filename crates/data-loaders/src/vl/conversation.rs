//! Conversations about images as stored by LLaVA: a JSON list of `{id, image, conversations: [{from, value}]}`, or one of
//! them a line (JSONL).
//!
//! A row is checked when it is read, so that a fault is reported with file and row before any training: `image` names
//! an existing file, `<image>` occurs exactly once if there is an image and otherwise not at all, `human` and `gpt`
//! alternate, and no answer is empty. A row without an image is plain text, as some are in LLaVA's mixture.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::io::files::stays_inside;
use crate::random::Stream;
use crate::vl::picture::Picture;
use crate::vl::rows::{numbered, read_json, read_lines};

/// Placeholder for the image in a text.
pub const PLACEHOLDER: &str = "<image>";

/// The location in a dataset's files, for error messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Name of the dataset.
    pub set: Arc<str>,
    /// The file.
    pub file: Arc<Path>,
    /// The row, counting from 1.
    pub row: usize,
}

impl Origin {
    /// An error for this row.
    pub(crate) fn fault(&self, reason: impl Into<String>) -> DataError {
        DataError::BadLine {
            set: self.set.to_string(),
            path: self.file.to_path_buf(),
            line: self.row,
            reason: reason.into(),
        }
    }

    /// The image in `folder` named by this row; its path may not leave the folder.
    pub(crate) fn picture(&self, folder: &Path, name: impl AsRef<Path>) -> Result<Picture, DataError> {
        let (set, path, line) = (self.set.to_string(), self.file.to_path_buf(), self.row);
        if !stays_inside(name.as_ref()) {
            let found = name.as_ref().display().to_string();
            return Err(DataError::PathEscapes { set, path, line, found });
        }
        let image = folder.join(name);
        if image.is_file() {
            return Ok(Picture::File(image));
        }
        Err(DataError::MissingImage { set, path, line, image })
    }
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The question, without the placeholder.
    pub question: String,
    /// The answer; not empty.
    pub answer: String,
    /// Whether the image precedes the question.
    pub image: bool,
}

/// A conversation with or without an image.
#[derive(Debug, Clone)]
pub struct Conversation {
    /// The image.
    pub picture: Option<Picture>,
    /// The turns, at least one.
    pub turns: Vec<Turn>,
    /// The file and the row.
    pub origin: Origin,
}

/// A conversation file of a mixture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConversationFile {
    /// The JSON file, relative to the data root.
    pub file: PathBuf,
    /// The folder that its image paths are relative to, relative to the data root.
    pub images: PathBuf,
    /// Number of rows, sampled with a seed; all of them if left out.
    #[serde(default)]
    pub rows: Option<usize>,
}

/// Reads a mixture: the rows of each file in turn, all of them or a sample in file order.
///
/// # Errors
/// The first file that cannot be read, or the first invalid row.
pub fn read_mixture(
    set: &str,
    root: &Path,
    files: &[ConversationFile],
    seed: u64,
) -> Result<Vec<Conversation>, DataError> {
    let mut mixture = Vec::new();
    for (number, ConversationFile { file, images, rows }) in files.iter().enumerate() {
        let all = read_conversations(set, &root.join(file), &root.join(images))?;
        let Some(rows) = *rows else {
            mixture.extend(all);
            continue;
        };
        if rows == 0 || rows > all.len() {
            let reason = format!("{rows} rows were requested, but the file has {}", all.len());
            return Err(DataError::BadFile { set: set.into(), path: root.join(file), reason });
        }
        let mut taken = Stream::new("mixture", &[seed, number as u64]).permutation(all.len());
        taken.truncate(rows);
        taken.sort_unstable();
        mixture.extend(taken.into_iter().map(|row| all[row].clone()));
    }
    Ok(mixture)
}

#[derive(Deserialize)]
struct StoredRow {
    #[serde(default)]
    image: Option<PathBuf>,
    conversations: Vec<StoredTurn>,
}

#[derive(Deserialize)]
struct StoredTurn {
    from: String,
    value: String,
}

/// Reads one file; image paths are relative to `images`.
///
/// # Errors
/// If it cannot be read, or the first invalid row.
pub fn read_conversations(set: &str, file: &Path, images: &Path) -> Result<Vec<Conversation>, DataError> {
    let rows: Vec<(Origin, StoredRow)> = if file.extension().is_some_and(|ending| ending == "jsonl") {
        read_lines(set, file)?
    } else {
        let rows: Vec<StoredRow> = read_json(set, file)?;
        numbered(set, file, rows).collect()
    };
    if rows.is_empty() {
        let (path, reason) = (file.into(), "it has no conversations".into());
        return Err(DataError::BadFile { set: set.into(), path, reason });
    }
    rows.into_iter().map(|(origin, row)| conversation(row, images, origin)).collect()
}

fn conversation(row: StoredRow, images: &Path, origin: Origin) -> Result<Conversation, DataError> {
    // LLaVA drops an initial answer without a question.
    let unasked = row.conversations.first().is_some_and(|turn| turn.from == "gpt");
    let stored = &row.conversations[usize::from(unasked)..];
    if stored.is_empty() || stored.len() % 2 == 1 {
        return Err(origin.fault("the conversation does not end with an answer"));
    }
    let turns = stored.chunks_exact(2).map(|pair| turn(&pair[0], &pair[1], &origin));
    let turns = turns.collect::<Result<Vec<_>, _>>()?;
    let placeholders: usize =
        row.conversations.iter().map(|turn| turn.value.matches(PLACEHOLDER).count()).sum();
    match (&row.image, placeholders) {
        (Some(_), 0) => return Err(origin.fault("there is an image but no `<image>` in the text")),
        (None, 1..) => return Err(origin.fault("there is `<image>` in the text but no image")),
        (Some(_), 2..) => {
            return Err(origin.fault(format!(
                "`<image>` occurs {placeholders} times in the text, but there is one image"
            )));
        }
        (Some(_), 1) if !turns.iter().any(|turn| turn.image) => {
            return Err(origin.fault("`<image>` occurs in an answer; it belongs in a question"));
        }
        _ => {}
    }
    let picture = row.image.map(|image| origin.picture(images, image)).transpose()?;
    Ok(Conversation { picture, turns, origin })
}

fn turn(human: &StoredTurn, gpt: &StoredTurn, origin: &Origin) -> Result<Turn, DataError> {
    for (turn, role) in [(human, "human"), (gpt, "gpt")] {
        if turn.from != role {
            return Err(origin.fault(format!("expected a turn of `{role}`, found one of `{}`", turn.from)));
        }
    }
    if gpt.value.trim().is_empty() {
        return Err(origin.fault("an answer is empty"));
    }
    let image = human.value.contains(PLACEHOLDER);
    let question = human.value.replace(PLACEHOLDER, "");
    let question = if image { question.trim().to_owned() } else { question };
    Ok(Turn { question, answer: gpt.value.clone(), image })
}
