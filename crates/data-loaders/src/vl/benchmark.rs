//! The seven datasets that LLaVA-1.5 is evaluated on: their files as distributed by their authors, one folder each,
//! with LLaVA's prompts.
//!
//! If a dataset's test answers are on a server, `Answers::Server` opens that part without answers, and `Answers::Local`
//! opens the part whose answers are public, which is a different part with a different score.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::registry::Benchmark;

use crate::error::DataError;
use crate::vl::conversation::Origin;
use crate::vl::judge::Key;
use crate::vl::picture::Picture;
use crate::vl::question::{Question, SHORT_ANSWER, UNANSWERABLE};
use crate::vl::rows::{numbered, read_json, read_lines};
use crate::vl::submission::{
    Answered, SubmissionError, mmbench_submission, vizwiz_submission, vqav2_submission,
};
use crate::vl::table;

/// Where the answers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answers {
    /// The part that published results are reported on; answers known only to a server are withheld.
    Server,
    /// The part whose answers are public.
    Local,
}

impl Benchmark {
    /// All benchmarks, in table order.
    pub const ALL: [Self; 7] =
        [Self::Vqav2, Self::Gqa, Self::Vizwiz, Self::ScienceqaImg, Self::Textvqa, Self::Pope, Self::Mmbench];

    /// The name in tables of published results, also the folder name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vqav2 => "vqav2",
            Self::Gqa => "gqa",
            Self::Vizwiz => "vizwiz",
            Self::ScienceqaImg => "scienceqa_img",
            Self::Textvqa => "textvqa",
            Self::Pope => "pope",
            Self::Mmbench => "mmbench",
        }
    }

    /// LLaVA-1.5's limit on new tokens per answer.
    pub fn new_tokens(self) -> i64 {
        match self {
            Self::ScienceqaImg | Self::Mmbench => 1024,
            _ => 128,
        }
    }

    /// The questions of the dataset in `<root>/<name>`.
    ///
    /// # Errors
    /// The first file that cannot be read, or the first entry that is invalid or whose image is missing.
    pub fn open(self, root: &Path, answers: Answers) -> Result<Vec<Question>, DataError> {
        let folder = root.join(self.name());
        if !folder.is_dir() {
            return Err(DataError::MissingFolder { set: self.name().into(), path: folder });
        }
        match self {
            Self::Vqav2 => vqav2(self.name(), &folder, answers),
            Self::Gqa => gqa(self.name(), &folder),
            Self::Vizwiz => vizwiz(self.name(), &folder, answers),
            Self::ScienceqaImg => scienceqa(self.name(), &folder),
            Self::Textvqa => textvqa(self.name(), &folder),
            Self::Pope => pope(self.name(), &folder, &folder.join("val2014")),
            Self::Mmbench => table::mmbench(self.name(), &folder.join("mmbench_dev_20230712.tsv")),
        }
    }

    /// Identifiers of all questions of the list from which the asked ones are taken, where the server expects them: those
    /// of test2015 for VQAv2's test-dev, as LLaVA's `convert_vqav2_for_submission.py` has them. None where that list is
    /// not there.
    ///
    /// # Errors
    /// When the list is malformed.
    pub fn also_submitted(self, root: &Path, answers: Answers) -> Result<Vec<String>, DataError> {
        #[derive(Deserialize)]
        struct Questions {
            questions: Vec<QuestionRow>,
        }
        #[derive(Deserialize)]
        struct QuestionRow {
            question_id: u64,
        }
        let list = root.join(self.name()).join("v2_OpenEnded_mscoco_test2015_questions.json");
        if self != Self::Vqav2 || answers == Answers::Local || !list.is_file() {
            return Ok(Vec::new());
        }
        let stored: Questions = read_json(self.name(), &list)?;
        Ok(stored.questions.into_iter().map(|row| row.question_id.to_string()).collect())
    }

    /// The answers with an empty one for each further question, in the order of `also_submitted`.
    pub fn complete(self, answers: Vec<Answered>, also_submitted: &[String]) -> Vec<Answered> {
        if also_submitted.is_empty() {
            return answers;
        }
        let listed: HashSet<&str> = also_submitted.iter().map(String::as_str).collect();
        let (mut known, unlisted): (HashMap<String, Answered>, Vec<Answered>) = {
            let (known, unlisted): (Vec<_>, Vec<_>) =
                answers.into_iter().partition(|answered| listed.contains(answered.id.as_str()));
            (known.into_iter().map(|answered| (answered.id.clone(), answered)).collect(), unlisted)
        };
        let empty = |id: &String| Answered { id: id.clone(), ..Answered::default() };
        let all = also_submitted.iter().map(|id| known.remove(id).unwrap_or_else(|| empty(id)));
        all.chain(unlisted).collect()
    }

    /// The submission file for the dataset's server, under its usual name; `None` for a dataset without a server.
    ///
    /// # Errors
    /// If an answer cannot be represented in the file.
    pub fn submission(
        self,
        answers: &[Answered],
    ) -> Option<(&'static str, Result<Vec<u8>, SubmissionError>)> {
        match self {
            Self::Vqav2 => Some(("vqav2_test-dev.json", vqav2_submission(answers))),
            Self::Vizwiz => Some(("vizwiz_test.json", vizwiz_submission(answers))),
            Self::Mmbench => Some(("mmbench_dev_20230712.xlsx", mmbench_submission(answers))),
            _ => None,
        }
    }
}

/// One of ten annotators' answers, in the files of three datasets.
#[derive(Deserialize)]
struct AnnotatorAnswer {
    answer: String,
}

fn texts(answers: Vec<AnnotatorAnswer>) -> Vec<String> {
    answers.into_iter().map(|given| given.answer).collect()
}

fn vqav2(set: &str, folder: &Path, answers: Answers) -> Result<Vec<Question>, DataError> {
    #[derive(Deserialize)]
    struct Questions {
        questions: Vec<QuestionRow>,
    }
    #[derive(Deserialize)]
    struct QuestionRow {
        image_id: u64,
        question: String,
        question_id: u64,
    }
    #[derive(Deserialize)]
    struct Annotations {
        annotations: Vec<Annotation>,
    }
    #[derive(Deserialize)]
    struct Annotation {
        question_id: u64,
        answers: Vec<AnnotatorAnswer>,
    }
    let (part, images) = match answers {
        Answers::Server => ("test-dev2015", "test2015"),
        Answers::Local => ("val2014", "val2014"),
    };
    let file = folder.join(format!("v2_OpenEnded_mscoco_{part}_questions.json"));
    let mut known: HashMap<u64, Vec<String>> = HashMap::new();
    if answers == Answers::Local {
        let stored: Annotations = read_json(set, &folder.join("v2_mscoco_val2014_annotations.json"))?;
        known.extend(stored.annotations.into_iter().map(|one| (one.question_id, texts(one.answers))));
    }
    let stored: Questions = read_json(set, &file)?;
    let question = |(origin, row): (Origin, QuestionRow)| {
        let image = format!("{images}/COCO_{images}_{:012}.jpg", row.image_id);
        let key = match answers {
            Answers::Server => Key::Withheld,
            Answers::Local => Key::Vqa(
                known
                    .remove(&row.question_id)
                    .ok_or_else(|| origin.fault(format!("question {} has no answers", row.question_id)))?,
            ),
        };
        let picture = origin.picture(folder, image)?;
        Ok(Question::short(row.question_id.to_string(), picture, &row.question, key, origin))
    };
    numbered(set, &file, stored.questions).map(question).collect()
}

fn gqa(set: &str, folder: &Path) -> Result<Vec<Question>, DataError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct QuestionRow {
        image_id: String,
        question: String,
        answer: String,
    }
    let file = folder.join("testdev_balanced_questions.json");
    let stored: BTreeMap<String, QuestionRow> = read_json(set, &file)?;
    let question = |(origin, (id, row)): (Origin, (String, QuestionRow))| {
        let picture = origin.picture(&folder.join("images"), format!("{}.jpg", row.image_id))?;
        Ok(Question::short(id, picture, &row.question, Key::Exact(row.answer), origin))
    };
    numbered(set, &file, stored.into_iter().collect()).map(question).collect()
}

fn vizwiz(set: &str, folder: &Path, answers: Answers) -> Result<Vec<Question>, DataError> {
    #[derive(Deserialize)]
    struct QuestionRow {
        image: String,
        question: String,
        #[serde(default)]
        answers: Vec<AnnotatorAnswer>,
    }
    let part = match answers {
        Answers::Server => "test",
        Answers::Local => "val",
    };
    let file = folder.join(format!("{part}.json"));
    let question = |(origin, row): (Origin, QuestionRow)| {
        let key = match answers {
            Answers::Server => Key::Withheld,
            Answers::Local if row.answers.is_empty() => {
                return Err(origin.fault("the question has no answers"));
            }
            Answers::Local => Key::Vqa(texts(row.answers)),
        };
        let picture = origin.picture(&folder.join(part), &row.image)?;
        let plain = Question::short(row.image, picture, &row.question, key, origin);
        Ok(Question { prompt: format!("{}\n{UNANSWERABLE}\n{SHORT_ANSWER}", row.question), ..plain })
    };
    numbered(set, &file, read_json(set, &file)?).map(question).collect()
}

fn scienceqa(set: &str, folder: &Path) -> Result<Vec<Question>, DataError> {
    #[derive(Deserialize)]
    struct Problem {
        question: String,
        choices: Vec<String>,
        answer: usize,
        #[serde(default)]
        hint: String,
        image: Option<String>,
    }
    let file = folder.join("problems.json");
    let mut problems: HashMap<String, Problem> = read_json(set, &file)?;
    let path = folder.join("pid_splits.json");
    let mut splits: HashMap<String, Vec<String>> = read_json(set, &path)?;
    let test = splits.remove("test").ok_or_else(|| DataError::BadFile {
        set: set.into(),
        path: path.clone(),
        reason: "it has no split `test`".into(),
    })?;
    let question = |(origin, id): (Origin, String)| {
        let Some(problem) = problems.remove(&id) else {
            return Some(Err(origin.fault(format!("there is no problem `{id}` in problems.json"))));
        };
        let image = problem.image?;
        let options = problem.choices.len();
        if problem.answer >= options {
            return Some(Err(origin.fault(format!("problem `{id}` has no option {}", problem.answer))));
        }
        let key = Key::Choice { right: problem.answer, options };
        let hint = if problem.hint.is_empty() { String::new() } else { format!("Context: {}", problem.hint) };
        let picture = origin.picture(&folder.join("images/test"), Path::new(&id).join(image));
        Some(picture.map(|picture| {
            Question::choice(id, picture, &hint, &problem.question, problem.choices, key, origin)
        }))
    };
    numbered(set, &path, test).filter_map(question).collect()
}

fn textvqa(set: &str, folder: &Path) -> Result<Vec<Question>, DataError> {
    #[derive(Deserialize)]
    struct Data<T> {
        data: Vec<T>,
    }
    #[derive(Deserialize)]
    struct QuestionRow {
        question_id: u64,
        image_id: String,
        question: String,
        answers: Vec<String>,
    }
    #[derive(Deserialize)]
    struct OcrRow {
        image_id: String,
        ocr_tokens: Vec<String>,
    }
    let stored: Data<OcrRow> = read_json(set, &folder.join("TextVQA_Rosetta_OCR_v0.2_val.json"))?;
    let read: HashMap<String, String> =
        stored.data.into_iter().map(|read| (read.image_id, read.ocr_tokens.join(", "))).collect();
    let file = folder.join("TextVQA_0.5.1_val.json");
    let stored: Data<QuestionRow> = read_json(set, &file)?;
    let question = |(origin, row): (Origin, QuestionRow)| {
        let QuestionRow { question_id, image_id, question, answers } = row;
        let tokens = read
            .get(&image_id)
            .ok_or_else(|| origin.fault(format!("there are no OCR tokens for image `{image_id}`")))?;
        let picture = origin.picture(&folder.join("train_images"), format!("{image_id}.jpg"))?;
        let id = question_id.to_string();
        let plain = Question::short(id, picture, &question, Key::TextVqa(answers), origin);
        Ok(Question { prompt: format!("{question}\nReference OCR token: {tokens}\n{SHORT_ANSWER}"), ..plain })
    };
    numbered(set, &file, stored.data).map(question).collect()
}

/// POPE's three parts, with images in the folder `images`.
pub(super) fn pope(set: &str, folder: &Path, images: &Path) -> Result<Vec<Question>, DataError> {
    #[derive(Deserialize)]
    struct QuestionRow {
        question_id: u64,
        image: String,
        text: String,
        label: String,
    }
    let mut questions = Vec::new();
    for part in ["random", "popular", "adversarial"] {
        for (origin, row) in read_lines::<QuestionRow>(set, &folder.join(format!("coco_pope_{part}.json")))? {
            let right = match row.label.as_str() {
                "yes" => true,
                "no" => false,
                other => return Err(origin.fault(format!("expected the label yes or no, found `{other}`"))),
            };
            let picture = origin.picture(images, &row.image)?;
            let id = format!("{part}/{}", row.question_id);
            let plain = Question::short(id, picture, &row.text, Key::YesNo(right), origin);
            let answer = Some(if right { "Yes" } else { "No" }.to_owned());
            questions.push(Question { part: part.into(), answer, ..plain });
        }
    }
    Ok(questions)
}

/// An image from a table cell.
pub(super) fn inside(file: &Path, bytes: Arc<[u8]>) -> Picture {
    Picture::Inside(file.into(), bytes)
}
