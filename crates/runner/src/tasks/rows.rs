//! Rows of instruction and answer as material: LLM-Adapters' prompts, and its rules for the answer in a text.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::Result;
use backbones::generate::Continuation;
use data_loaders::Split;
use data_loaders::text::{Row, Score, TextSet, continuation, evaluation_prompt, examples, suite_checksum};
use report::record::Dataset;

use crate::config::experiment::TextProtocol;
use crate::plan::cell::Cell;
use crate::resources::context::{Context, LoadedLanguageModel};
use crate::tasks::material::{Answer, Blind, Exam, Judged, Material, Pictures};
use crate::tasks::{dataset, require_planned_data, splits};

/// The rows of a cell's sets.
pub(super) fn material(
    cell: &Cell,
    text: &TextProtocol,
    model: &Rc<LoadedLanguageModel>,
    context: &mut Context,
) -> Result<Material> {
    let sets = context.texts(&cell.sets, &cell.data)?;
    require_planned_data(cell, &suite_checksum(&sets))?;
    let (train, read) = splits(cell.stage);
    let rows = sets.first().map_or(&[][..], |set| set.rows(train));
    let (examples, truncation) =
        examples(rows, &text.examples, model.end, |text| model.tokenizer.encode(text))?;
    // Rows to choose by are shared by all sets: one reading is enough.
    let sets = if read == Split::Val { &sets[..sets.len().min(1)] } else { &sets[..] };
    let exam = |set: &Rc<TextSet>| -> Result<Box<dyn Exam>> {
        let rows = set.rows(read);
        let prompts = rows.iter().map(|row| model.encode(&evaluation_prompt(row))).collect::<Result<_>>()?;
        let dataset = dataset(set.name(), set.entry(), rows.len(), set.checksum())?;
        Ok(Box::new(RowExam { set: set.clone(), read, dataset, prompts, model: model.clone() }))
    };
    let exams = sets.iter().map(exam).collect::<Result<_>>()?;
    Ok(Material { examples, truncation, pictures: Box::new(Blind), exams })
}

struct RowExam {
    set: Rc<TextSet>,
    read: Split,
    dataset: Dataset,
    prompts: Vec<Vec<i64>>,
    model: Rc<LoadedLanguageModel>,
}

impl Exam for RowExam {
    fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn file_stem(&self) -> &str {
        &self.set.entry().name
    }

    fn prompts(&self) -> &[Vec<i64>] {
        &self.prompts
    }

    fn pictures(&self) -> &dyn Pictures {
        &Blind
    }

    fn options(&self, prompt: usize) -> Result<Vec<(String, Continuation)>> {
        let (row, tokens) = (&self.set.rows(self.read)[prompt], &self.prompts[prompt]);
        let continued = |option: &&str| {
            let whole = self.model.encode(&(evaluation_prompt(row) + &continuation(option)))?;
            // A token may reach over the end of the prompt.
            let shared = whole.iter().zip(tokens).take_while(|(one, other)| one == other).count();
            let continuation =
                Continuation { prompt: whole[..shared].to_vec(), text: whole[shared..].to_vec() };
            Ok(((*option).to_owned(), continuation))
        };
        row.options().iter().map(continued).collect()
    }

    /// Numbers are the places among the answers of the row's format.
    fn judge(&self, answers: &[Answer]) -> Judged {
        let rows = self.set.rows(self.read);
        let found: Vec<Option<&str>> =
            rows.iter().zip(answers).map(|(row, answer)| found(row, answer)).collect();
        let pairs = rows.iter().zip(&found);
        let score = Score::of(pairs.clone().map(|(row, found)| (*found, row.answer.as_str())));
        let place = |row: &Row, answer: Option<&str>| {
            let place = row.format().and_then(|format| format.options().position(|one| Some(one) == answer));
            place.map_or(-1, |place| place as i64)
        };
        Judged {
            accuracy: Some(score.accuracy()),
            no_answer: score.no_answer_rate(),
            further: BTreeMap::new(),
            labels: rows.iter().map(|row| place(row, Some(&row.answer))).collect(),
            predicted: pairs.map(|(row, found)| place(row, *found)).collect(),
        }
    }
}

fn found<'a>(row: &Row, answer: &'a Answer) -> Option<&'a str> {
    match answer {
        Answer::Text(text) => row.format()?.extract(text),
        Answer::Option(option) => option.as_deref(),
    }
}
