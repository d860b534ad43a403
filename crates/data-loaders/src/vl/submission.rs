//! Submission files for the datasets whose answers are on a server: VQAv2 test-dev, VizWiz test, MMBench. The score
//! stays pending until the server has returned it.

use std::io::{Cursor, Write};

use serde::Serialize;
use zip::write::SimpleFileOptions;

use crate::vl::judge::option_letter;
use crate::vl::normalise::evalai_answer;

/// One generated text and what the server needs about its question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answered {
    /// The benchmark's question identifier.
    pub id: String,
    /// Name of the image file.
    pub image: String,
    /// The question without options, hint and suffix.
    pub question: String,
    /// The options, if there are any.
    pub choices: Vec<String>,
    /// The generated text.
    pub text: String,
}

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// VQAv2 question ids are numbers.
    #[error("the VQAv2 server requires numeric question ids, found `{id}`")]
    QuestionId {
        /// The id found.
        id: String,
    },
    /// The zip container could not be written.
    #[error("the spreadsheet cannot be written: {0}")]
    Table(#[from] zip::result::ZipError),
    /// The zip container could not be written.
    #[error("the spreadsheet cannot be written: {0}")]
    Write(#[from] std::io::Error),
    /// The answers cannot be written as JSON.
    #[error("the answers cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// VQAv2: a JSON list of question id and answer, with answers normalised by EvalAI's code.
///
/// # Errors
/// If an id is not a number.
pub fn vqav2_submission(answers: &[Answered]) -> Result<Vec<u8>, SubmissionError> {
    #[derive(Serialize)]
    struct Row {
        question_id: u64,
        answer: String,
    }
    let row = |answered: &Answered| {
        let id = || SubmissionError::QuestionId { id: answered.id.clone() };
        let question_id = answered.id.parse().map_err(|_| id())?;
        Ok(Row { question_id, answer: evalai_answer(&answered.text) })
    };
    let rows = answers.iter().map(row).collect::<Result<Vec<_>, SubmissionError>>()?;
    Ok(serde_json::to_vec(&rows)?)
}

/// VizWiz: a JSON list of image name and answer.
///
/// # Errors
/// None in practice: strings can be written.
pub fn vizwiz_submission(answers: &[Answered]) -> Result<Vec<u8>, SubmissionError> {
    #[derive(Serialize)]
    struct Row {
        image: String,
        answer: String,
    }
    let row =
        |answered: &Answered| Row { image: answered.image.clone(), answer: evalai_answer(&answered.text) };
    Ok(serde_json::to_vec(&answers.iter().map(row).collect::<Vec<_>>())?)
}

/// MMBench: a workbook (Office Open XML) of index, question, options and prediction, which is the text as generated.
///
/// # Errors
/// If the container cannot be written.
pub fn mmbench_submission(answers: &[Answered]) -> Result<Vec<u8>, SubmissionError> {
    let options = answers.iter().map(|answered| answered.choices.len()).max().unwrap_or(0).max(4);
    let letters = (0..options).filter_map(option_letter).map(String::from);
    let header = ["index", "question"].map(str::to_owned).into_iter().chain(letters);
    let mut rows = vec![header.chain(["prediction".to_owned()]).collect::<Vec<_>>()];
    rows.extend(answers.iter().map(|answered| {
        let choices = (0..options).map(|at| answered.choices.get(at).cloned().unwrap_or_default());
        let start = [answered.id.clone(), answered.question.clone()].into_iter();
        start.chain(choices).chain([answered.text.clone()]).collect()
    }));
    workbook(&rows)
}

const RELATIONS: &str = "http://schemas.openxmlformats.org/package/2006/relationships";
const OFFICE: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const SHEETS: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
const CONTENT: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml";

/// A minimal workbook that spreadsheet programs can read: one sheet of inline text, integers as numbers.
fn workbook(rows: &[Vec<String>]) -> Result<Vec<u8>, SubmissionError> {
    let relation = |kind: &str, target: &str| {
        format!(
            "<Relationships xmlns=\"{RELATIONS}\"><Relationship Id=\"r1\" Type=\"{OFFICE}/{kind}\" \
             Target=\"{target}\"/></Relationships>"
        )
    };
    let part = |name: &str, kind: &str| {
        format!("<Override PartName=\"{name}\" ContentType=\"{CONTENT}.{kind}+xml\"/>")
    };
    let types = format!(
        "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"><Default Extension=\"rels\" \
         ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>{}{}</Types>",
        part("/xl/workbook.xml", "sheet.main"),
        part("/xl/worksheets/sheet1.xml", "worksheet"),
    );
    let book = format!(
        "<workbook xmlns=\"{SHEETS}\" xmlns:r=\"{OFFICE}\"><sheets><sheet name=\"Sheet1\" sheetId=\"1\" \
         r:id=\"r1\"/></sheets></workbook>"
    );
    let sheet = format!(
        "<worksheet xmlns=\"{SHEETS}\"><sheetData>{}</sheetData></worksheet>",
        rows.iter().map(|row| sheet_row(row)).collect::<String>()
    );
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let files = [
        ("[Content_Types].xml", types),
        ("_rels/.rels", relation("officeDocument", "xl/workbook.xml")),
        ("xl/workbook.xml", book),
        ("xl/_rels/workbook.xml.rels", relation("worksheet", "worksheets/sheet1.xml")),
        ("xl/worksheets/sheet1.xml", sheet),
    ];
    for (name, text) in files {
        archive.start_file(name, SimpleFileOptions::default())?;
        archive.write_all(b"<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n")?;
        archive.write_all(text.as_bytes())?;
    }
    Ok(archive.finish()?.into_inner())
}

fn sheet_row(cells: &[String]) -> String {
    let cell = |text: &String| match text.parse::<u32>() {
        Ok(number) if number.to_string() == *text => format!("<c><v>{number}</v></c>"),
        _ => {
            format!("<c t=\"inlineStr\"><is><t xml:space=\"preserve\">{}</t></is></c>", escaped(text))
        }
    };
    format!("<row>{}</row>", cells.iter().map(cell).collect::<String>())
}

/// Escapes text for XML; characters that XML 1.0 cannot represent are dropped.
fn escaped(text: &str) -> String {
    let allowed = |character: &char| *character >= ' ' || matches!(character, '\t' | '\n' | '\r');
    let valid: String = text.chars().filter(allowed).collect();
    valid.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn answered(id: &str, text: &str) -> Answered {
        Answered {
            id: id.into(),
            image: "a.jpg".into(),
            question: "Is x < y & z?".into(),
            choices: vec!["yes".into(), "12".into()],
            text: text.into(),
        }
    }

    #[test]
    fn json_submissions_contain_the_normalised_answers() {
        let json = vqav2_submission(&[answered("262144005", "Two dogs.")]).unwrap();
        assert_eq!(String::from_utf8(json).unwrap(), r#"[{"question_id":262144005,"answer":"2 dogs"}]"#);
        let json = vizwiz_submission(&[answered("", "Unanswerable")]).unwrap();
        assert_eq!(String::from_utf8(json).unwrap(), r#"[{"image":"a.jpg","answer":"unanswerable"}]"#);
        let message = vqav2_submission(&[answered("q1", "")]).unwrap_err().to_string();
        assert!(message.contains("`q1`"), "{message}");
    }

    #[test]
    fn the_spreadsheet_contains_the_unchanged_text() {
        let bytes = mmbench_submission(&[answered("7", "A\u{1}.")]).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let mut sheet = String::new();
        archive.by_name("xl/worksheets/sheet1.xml").unwrap().read_to_string(&mut sheet).unwrap();
        assert!(sheet.contains("<c><v>7</v></c>") && sheet.contains("Is x &lt; y &amp; z?"), "{sheet}");
        assert!(sheet.contains(">prediction</t>") && sheet.contains(">A.</t>"), "{sheet}");
        assert_eq!(sheet.matches("<row>").count(), 2);
    }
}
