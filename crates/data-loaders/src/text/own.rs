//! Rows of one's own: JSON (a list) or JSONL (a row a line) with `instruction`, and `input`, `output`, `answer` as far as
//! there are any (Alpaca's form, and LLM-Adapters').
//!
//! A row needs an output, which is trained on, or an answer, which is scored; each stands in for the other. If there are
//! few different answers, they are options: the one that occurs first in a generated text counts. Otherwise an answer is
//! right if the whole text is the answer or the output, apart from case and a final period.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::error::DataError;
use crate::io::files::{self, MAX_LIST_BYTES};
use crate::registry::{ClassNames, DatasetEntry};
use crate::text::prompt::continuation;
use crate::text::row::{AnswerKind, Row};
use crate::text::text_set::{TextSet, hold_out};

/// Maximum number of different answers that are options.
const MAX_OPTIONS: usize = 20;
/// The seed of a split that is not given.
const SEED: u64 = 0;
/// Endings of the files of a part.
const ENDINGS: [&str; 2] = ["json", "jsonl"];

#[derive(Deserialize)]
struct StoredRow {
    instruction: Option<String>,
    #[serde(default)]
    input: String,
    output: Option<String>,
    answer: Option<String>,
}

impl TextSet {
    /// Opens a file of rows, from which a tenth each is drawn for test and val, or a folder with the files `train`,
    /// `val` (drawn from train if there is none) and `test`.
    ///
    /// # Errors
    /// If a file is missing or malformed, or a row has no instruction, or neither output nor answer; with file and row.
    pub fn open_own(name: &str, path: &Path) -> Result<Self, DataError> {
        let mut hasher = blake3::Hasher::new();
        let mut read = |path: &Path| rows(name, path, &mut hasher);
        let mut parts = if path.is_dir() {
            let train = part(path, "train").ok_or_else(|| DataError::UnknownLayout {
                set: name.to_owned(),
                path: path.to_owned(),
                original: ", train.json or train.jsonl".into(),
            })?;
            let [val, test] = ["val", "test"].map(|name| part(path, name));
            let optional =
                |path: Option<PathBuf>, read: &mut dyn FnMut(&Path) -> Result<Vec<Row>, DataError>| {
                    path.map_or_else(|| Ok(Vec::new()), |path| read(&path))
                };
            [read(&train)?, optional(val, &mut read)?, optional(test, &mut read)?]
        } else {
            [read(path)?, Vec::new(), Vec::new()]
        };
        let drawn = (parts[0].len() / 10).max(1);
        for part in [2, 1] {
            if parts[part].is_empty() {
                let (mut train, count) = hold_out(std::mem::take(&mut parts[0]), drawn, SEED);
                parts[part] = train.split_off(count);
                parts[0] = train;
            }
        }
        for (name_of_part, rows) in ["train", "val", "test"].iter().zip(&parts) {
            if rows.is_empty() {
                return Err(DataError::EmptyPart {
                    set: name.to_owned(),
                    part: name_of_part,
                    path: path.to_owned(),
                });
            }
        }
        let entry = with_kind(name, &mut parts);
        Ok(Self::own(entry, parts, hasher.finalize().to_hex().to_string()))
    }
}

/// The file of a part of a folder.
fn part(folder: &Path, name: &str) -> Option<PathBuf> {
    ENDINGS.iter().map(|ending| folder.join(format!("{name}.{ending}"))).find(|path| path.is_file())
}

/// Sets how the answers of all rows are found, and returns the set's entry.
fn with_kind(name: &str, parts: &mut [Vec<Row>; 3]) -> DatasetEntry {
    let answers: BTreeSet<&str> = parts.iter().flatten().map(|row| row.answer.as_str()).collect();
    let entry = DatasetEntry::own(name);
    if answers.len() > MAX_OPTIONS || answers.len() < 2 {
        return entry;
    }
    let options: Vec<String> = answers.into_iter().map(str::to_owned).collect();
    let listed: Arc<[String]> = options.clone().into();
    parts.iter_mut().flatten().for_each(|row| row.kind = AnswerKind::Listed(listed.clone()));
    DatasetEntry { classes: options.len() as u32, class_names: ClassNames::Listed(options), ..entry }
}

fn rows(set: &str, path: &Path, hasher: &mut blake3::Hasher) -> Result<Vec<Row>, DataError> {
    let bytes = files::read(path, MAX_LIST_BYTES).map_err(|source| DataError::Read {
        set: set.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    hasher.update(blake3::hash(&bytes).as_bytes());
    let bad = |row: usize, reason: String| DataError::BadRow {
        set: set.to_owned(),
        path: path.to_owned(),
        row,
        reason,
    };
    let is_lines = path.extension().is_some_and(|ending| ending == ENDINGS[1]);
    let stored: Vec<StoredRow> = if is_lines {
        let lines = bytes.split(|byte| *byte == b'\n').zip(1..);
        let rows = lines.filter(|(line, _)| !line.trim_ascii().is_empty());
        rows.map(|(line, row)| serde_json::from_slice(line).map_err(|error| bad(row, error.to_string())))
            .collect::<Result<_, _>>()?
    } else {
        serde_json::from_slice(&bytes).map_err(|error| DataError::BadFile {
            set: set.to_owned(),
            path: path.to_owned(),
            reason: format!("it is not a JSON list of rows: {error}"),
        })?
    };
    stored.into_iter().zip(1..).map(|(stored, row)| own(stored).map_err(|reason| bad(row, reason))).collect()
}

/// The error is a clause.
fn own(stored: StoredRow) -> Result<Row, String> {
    let present =
        |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let instruction = present(stored.instruction).ok_or("it has no instruction")?;
    let (output, answer) = match (present(stored.output), present(stored.answer)) {
        (Some(output), Some(answer)) => (output, answer),
        (Some(output), None) => (output.clone(), output),
        (None, Some(answer)) => (continuation(&answer), answer),
        (None, None) => return Err("it has neither an output nor an answer".into()),
    };
    Ok(Row { instruction, input: stored.input.trim().to_owned(), output, answer, kind: AnswerKind::Free })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::{Split, SplitCounts};
    use crate::text::prompt::{evaluation_prompt, training_text};

    fn opened(name: &str, text: &str) -> Result<TextSet, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        TextSet::open_own("mine", &path)
    }

    #[test]
    fn few_answers_are_options_and_the_first_one_in_a_text_counts() {
        let lines: String = (0..20)
            .map(|n| {
                format!(
                    "{{\"instruction\": \"Review {n}\", \"output\": \"{}\"}}\n",
                    ["good", "not good"][n % 2]
                )
            })
            .collect();
        let set = opened("reviews.jsonl", &lines).unwrap();
        assert_eq!(set.counts(), SplitCounts { train: 16, val: 2, test: 2 });
        assert_eq!(set.entry().classes, 2);
        let row = &set.rows(Split::Test)[0];
        assert_eq!(row.options(), ["good", "not good"]);
        assert_eq!(row.find_answer("it is not good, not bad"), Some("not good"));
        assert_eq!(row.find_answer("bad"), None);
        assert_eq!((row.label("good"), row.label("not good")), (Some(0), Some(1)));
        assert_eq!(row.continuation("good"), "good");
    }

    #[test]
    fn many_answers_are_free_and_compared_as_a_whole() {
        let rows: Vec<_> = (0..30)
            .map(|n| serde_json::json!({"instruction": "Add", "input": format!("{n} + 1"), "answer": format!("{}", n + 1)}))
            .collect();
        let set = opened("sums.json", &serde_json::to_string(&rows).unwrap()).unwrap();
        let row = &set.rows(Split::Train)[0];
        assert!(row.options().is_empty() && set.entry().classes == 0);
        assert_eq!(row.output, format!("the correct answer is {}", row.answer));
        assert_eq!(row.find_answer(&format!(" {}.", row.answer)), Some(row.answer.as_str()));
        assert_eq!(row.find_answer(&row.output.to_uppercase()), Some(row.answer.as_str()));
        assert_eq!(row.find_answer("99"), Some("99"));
        assert_eq!(row.label("99"), Some(0));
        assert!(
            training_text(row).contains("### Input:")
                && evaluation_prompt(row).contains("paired with an input")
        );
    }

    #[test]
    fn a_folder_has_its_own_split_and_faults_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert!(TextSet::open_own("mine", folder.path()).unwrap_err().to_string().contains("train.json"));
        let row = r#"{"instruction": "a", "output": "b"}"#;
        write("train.jsonl", &format!("{row}\n{row}\n\n{row}\n"));
        write("test.json", &format!("[{row}]"));
        let set = TextSet::open_own("mine", folder.path()).unwrap();
        assert_eq!(set.counts(), SplitCounts { train: 2, val: 1, test: 1 });
        write("test.json", r#"[{"instruction": "a"}]"#);
        let said = TextSet::open_own("mine", folder.path()).unwrap_err().to_string();
        assert!(said.contains("test.json") && said.contains("neither an output nor an answer"), "{said}");
        write("test.json", r#"{"rows": []}"#);
        let said = TextSet::open_own("mine", folder.path()).unwrap_err().to_string();
        assert!(said.contains("not a JSON list"), "{said}");
    }
}
