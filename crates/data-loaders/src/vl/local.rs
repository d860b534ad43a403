//! Small question datasets for the profile `small`: easy-VQA (synthetic shapes, 13 answers), POPE-style questions about
//! COCO photographs, and NLVR (statements about synthetic images of boxes), in the folders of their distributions.

use std::path::Path;

use serde::Deserialize;

use crate::error::DataError;
use crate::registry::SmallSet;
use crate::vl::benchmark::pope;
use crate::vl::conversation::{Conversation, read_conversations};
use crate::vl::judge::Key;
use crate::vl::question::Question;
use crate::vl::rows::{numbered, read_json, read_lines};

/// A part of a small dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SmallPart {
    /// For training and validation; when it is divided, the questions of an image must stay together.
    Train,
    /// For testing.
    Test,
}

impl SmallSet {
    /// All datasets, in table order.
    pub const ALL: [Self; 3] = [Self::EasyVqa, Self::PopeCoco128, Self::Nlvr];

    /// The name in tables, also the folder name.
    pub fn name(self) -> &'static str {
        match self {
            Self::EasyVqa => "easy_vqa",
            Self::PopeCoco128 => "pope_coco128",
            Self::Nlvr => "nlvr",
        }
    }

    /// The questions of a part of the dataset in `<root>/<name>`; all have an answer for training.
    ///
    /// # Errors
    /// The first file that cannot be read, or the first entry that is invalid or whose image is missing.
    pub fn open(self, root: &Path, part: SmallPart) -> Result<Vec<Question>, DataError> {
        let folder = root.join(self.name());
        if !folder.is_dir() {
            return Err(DataError::MissingFolder { set: self.name().into(), path: folder });
        }
        match (self, part) {
            (Self::EasyVqa, SmallPart::Train) => easy_vqa(self.name(), &folder.join("train")),
            (Self::EasyVqa, SmallPart::Test) => easy_vqa(self.name(), &folder.join("test")),
            (Self::PopeCoco128, SmallPart::Train) => pope_training(self.name(), &folder),
            (Self::PopeCoco128, SmallPart::Test) => pope(self.name(), &folder, &folder.join("images")),
            (Self::Nlvr, SmallPart::Train) => nlvr(self.name(), &folder, "dev"),
            (Self::Nlvr, SmallPart::Test) => nlvr(self.name(), &folder, "test"),
        }
    }
}

fn easy_vqa(set: &str, folder: &Path) -> Result<Vec<Question>, DataError> {
    let file = folder.join("questions.json");
    let stored: Vec<(String, String, u64)> = read_json(set, &file)?;
    let question =
        |(origin, (text, answer, image)): (crate::vl::conversation::Origin, (String, String, u64))| {
            if answer.trim().is_empty() {
                return Err(origin.fault("an answer is empty"));
            }
            let picture = origin.picture(&folder.join("images"), format!("{image}.png"))?;
            let id = origin.row.to_string();
            let plain = Question::short(id, picture, &text, Key::Exact(answer.clone()), origin);
            Ok(Question { answer: Some(answer), ..plain })
        };
    numbered(set, &file, stored).map(question).collect()
}

fn nlvr(set: &str, folder: &Path, part: &str) -> Result<Vec<Question>, DataError> {
    #[derive(Deserialize)]
    struct Statement {
        question_id: String,
        image: String,
        text: String,
        label: String,
    }
    let question = |(origin, stored): (crate::vl::conversation::Origin, Statement)| {
        if !["true", "false"].contains(&stored.label.as_str()) {
            return Err(origin.fault(format!("expected the label true or false, found `{}`", stored.label)));
        }
        let picture = origin.picture(folder, &stored.image)?;
        let text = format!("Is the statement true or false? {}", stored.text);
        let key = Key::Exact(stored.label.clone());
        let plain = Question::short(stored.question_id, picture, &text, key, origin);
        Ok(Question { answer: Some(stored.label), ..plain })
    };
    read_lines(set, &folder.join(format!("{part}.json")))?.into_iter().map(question).collect()
}

/// The training file is in LLaVA's format, including prompt suffixes.
fn pope_training(set: &str, folder: &Path) -> Result<Vec<Question>, DataError> {
    let conversations = read_conversations(set, &folder.join("train.json"), &folder.join("images"))?;
    let question = |conversation: Conversation| {
        let Conversation { picture, turns, origin } = conversation;
        let ([turn], Some(picture)) = (&turns[..], picture) else {
            return Err(origin.fault("expected one question about an image"));
        };
        let answer = turn.answer.clone();
        let key = match answer.as_str() {
            "Yes" => Key::YesNo(true),
            "No" => Key::YesNo(false),
            other => Key::Exact(other.to_owned()),
        };
        let plain = Question::short(origin.row.to_string(), picture, &turn.question, key, origin.clone());
        Ok(Question { prompt: turn.question.clone(), part: "train".into(), answer: Some(answer), ..plain })
    };
    conversations.into_iter().map(question).collect()
}
