//! Conversations about images of one's own, in LLaVA's form: `{image, conversations: [{from, value}]}`, as a JSON list or
//! JSONL.
//!
//! Every conversation is trained on. Those of one question about an image are also asked: their answer is compared in
//! lower case and without a final period. Images lie in a folder `images` next to the file, or next to the file itself.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::DataError;
use crate::io::file_hashes::FileHashes;
use crate::io::files::{self, MAX_LIST_BYTES};
use crate::random::Stream;
use crate::registry::DatasetEntry;
use crate::vl::conversation::{Conversation, read_conversations};
use crate::vl::image_hashes::checksum_of;
use crate::vl::judge::Key;
use crate::vl::question::Question;
use crate::vl::question_set::{QuestionSet, split_by_image};
use crate::vl::question_suite::QuestionSuite;

/// The seed of a split that is not given.
const SEED: u64 = 0;

/// What a JSON file of one's own contains, or the file `train` of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnRows {
    /// Rows with an instruction.
    Text,
    /// Conversations, about images or not.
    Conversations,
}

impl OwnRows {
    /// By the first row; `None` if there is no such file, or it contains something else.
    pub fn of(path: &Path) -> Option<Self> {
        let files = ["train.json", "train.jsonl"].map(|name| path.join(name));
        let file = if path.is_dir() { files.iter().find(|file| file.is_file())? } else { path };
        let text = files::read(file, MAX_LIST_BYTES).ok()?;
        let first: Value = match serde_json::from_slice(&text) {
            Ok(Value::Array(rows)) => rows.into_iter().next()?,
            Ok(row) => row,
            Err(_) => serde_json::from_slice(text.split(|byte| *byte == b'\n').next()?).ok()?,
        };
        match (first.get("conversations"), first.get("instruction")) {
            (Some(_), _) => Some(Self::Conversations),
            (None, Some(_)) => Some(Self::Text),
            (None, None) => None,
        }
    }
}

impl QuestionSuite {
    /// Opens a file of conversations, of which a tenth of the images each is drawn for test and val, or a folder with
    /// the files `train`, `val` (drawn from train if there is none) and `test`.
    ///
    /// # Errors
    /// If a file is missing or malformed, or an image is missing; with file and row. If a part has no single question
    /// about an image.
    pub fn open_own(name: &str, path: &Path, hashes: &FileHashes) -> Result<Self, DataError> {
        let file = |part: &str| {
            let files = ["json", "jsonl"].map(|ending| path.join(format!("{part}.{ending}")));
            files.into_iter().find(|file| file.is_file())
        };
        let (train, val, test) = if path.is_dir() {
            let usual = || path.join("train.json");
            (file("train").unwrap_or_else(usual), file("val"), file("test"))
        } else {
            (path.to_owned(), None, None)
        };
        let (mut train, mixture) = read(name, &train)?;
        let drawn = (train.len() / 10).max(1);
        let mut part = |path: Option<PathBuf>, purpose: &str| match path {
            Some(path) => Ok::<_, DataError>(read(name, &path)?.0),
            None => {
                let stream = Stream::new(&format!("questions/own/{purpose}"), &[SEED]);
                let (rest, part) = split_by_image(std::mem::take(&mut train), drawn, stream);
                train = rest;
                Ok(part)
            }
        };
        let test = part(test, "test")?;
        let val = part(val, "val")?;
        for (part, questions) in [("train", &train), ("val", &val), ("test", &test)] {
            if questions.is_empty() {
                return Err(DataError::EmptyPart { set: name.to_owned(), part, path: path.to_owned() });
            }
        }
        let checksum = checksum_of(name, &[&train, &val, &test], hashes)?;
        let entry = DatasetEntry::own(name);
        let set = QuestionSet::synthetic(name.to_owned(), &entry, [train, val, test], checksum);
        Self::assemble(vec![set], mixture, hashes)
    }
}

/// The single questions about an image, and the other conversations.
fn read(set: &str, file: &Path) -> Result<(Vec<Question>, Vec<Conversation>), DataError> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let images = Some(folder.join("images")).filter(|images| images.is_dir());
    let (mut questions, mut others) = (Vec::new(), Vec::new());
    for conversation in read_conversations(set, file, images.as_deref().unwrap_or(folder))? {
        match (&conversation.turns[..], &conversation.picture) {
            ([turn], Some(picture)) => {
                // As the answer of a model is compared.
                let right = turn.answer.trim().trim_end_matches('.');
                let (key, origin) = (Key::Exact(right.into()), conversation.origin.clone());
                let plain =
                    Question::short(origin.row.to_string(), picture.clone(), &turn.question, key, origin);
                let (prompt, answer) = (turn.question.clone(), Some(turn.answer.clone()));
                questions.push(Question { prompt, answer, ..plain });
            }
            _ => others.push(conversation),
        }
    }
    Ok((questions, others))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::split::{Split, SplitCounts};

    fn conversation(image: Option<usize>, turns: usize) -> Value {
        let turn = |number: usize| {
            let mark = if number == 0 && image.is_some() { "<image>\n" } else { "" };
            [
                json!({"from": "human", "value": format!("{mark}What is it?")}),
                json!({"from": "gpt", "value": "Cat."}),
            ]
        };
        let turns: Vec<Value> = (0..turns).flat_map(turn).collect();
        match image {
            Some(image) => json!({"id": "1", "image": format!("{image}.png"), "conversations": turns}),
            None => json!({"id": "2", "conversations": turns}),
        }
    }

    #[test]
    fn single_questions_are_split_by_image_and_other_conversations_are_trained_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.json");
        std::fs::create_dir(folder.path().join("images")).unwrap();
        let mut rows = Vec::new();
        for image in 0..10 {
            let path = folder.path().join(format!("images/{image}.png"));
            image::RgbImage::from_pixel(4, 4, image::Rgb([image as u8; 3])).save(path).unwrap();
            rows.extend([conversation(Some(image), 1), conversation(Some(image), 1)]);
        }
        rows.extend([conversation(Some(3), 2), conversation(None, 1)]);
        std::fs::write(&file, json!(rows).to_string()).unwrap();
        let suite = QuestionSuite::open_own("mine", &file, &FileHashes::default()).unwrap();
        let set = &suite.sets()[0];
        assert_eq!(set.counts(), SplitCounts { train: 16, val: 2, test: 2 });
        assert_eq!(suite.conversations(Split::Train).unwrap().len(), 16 + 2);
        assert_eq!(set.questions(Split::Test)[0].key.judge("cat").score, Some(1.0));
        assert_eq!(set.questions(Split::Test)[0].prompt, "What is it?");

        std::fs::rename(&file, folder.path().join("train.json")).unwrap();
        std::fs::write(folder.path().join("test.json"), json!([conversation(None, 1)]).to_string()).unwrap();
        let said = QuestionSuite::open_own("mine", folder.path(), &FileHashes::default()).unwrap_err();
        assert!(said.to_string().contains("test"), "{said}");
    }
}
