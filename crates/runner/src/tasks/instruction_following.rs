//! Instruction following: rows of instruction and answer, LLM-Adapters' prompts, and its rules for extracting the
//! answer from a text. One model is trained on the rows of all sets, and evaluated on each.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::Result;
use backbones::language::generate::Continuation;
use backbones::step_memory::Need;
use data_loaders::Split;
use data_loaders::text::{
    Example, ExampleProtocol, MASKED, Row, Score, TextSet, evaluation_prompt, examples, suite_checksum,
};
use report::record::Dataset;
use san_core::train::schedule::Linear;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Kind;

use crate::error::RunError;
use crate::models::{BaseModel, LoadedLanguageModel, NamedArchitecture};
use crate::resources::{DataSets, DataSource, Models, Resources};
use crate::tasks::language::amounts::{Lengths, amounts, mean_of, sample};
use crate::tasks::language::data::{Answer, EvalJudgement, EvalSet, ImageFeatures, NoImages, TrainData};
use crate::tasks::language::{LanguageProtocol, Memory, Prepared, memory};
use crate::tasks::protocol::check_counts;
use crate::tasks::schedule::from_and_to_zero;
use crate::tasks::{
    Amounts, DataSizes, GroupShape, PreparedTask, Protocol, Run, SetRow, Task, Tuned, Unit, UnitData,
    dataset, splits,
};
use crate::train::task::Schedule;

/// Mean tokens of a training row (padded to the longest of 16, and alone), of a prompt and of an answer where they are not
/// there to be measured: from the lengths of commonsense_15k and of the tests in characters, at four characters a token.
const ASSUMED_EXAMPLE: usize = 250;
const ASSUMED_PREDICTED: usize = 155;
const ASSUMED_PROMPT: usize = 190;
const ASSUMED_ANSWER: usize = 8;

/// The protocol of instruction following.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstructionFollowing {
    /// How a row becomes tokens.
    pub examples: ExampleProtocol,
    /// Linear warm-up steps; linear decay follows.
    pub warmup_steps: u64,
    /// Batches, memory and generation.
    pub language: LanguageProtocol,
}

impl Task for InstructionFollowing {
    fn name(&self) -> &'static str {
        "instruction_following"
    }

    fn check(&self, _: u64) -> Result<(), String> {
        check_counts(&[("max_length", self.examples.max_length as i128)])?;
        self.language.check()
    }

    fn recorded_schedule(&self) -> Value {
        from_and_to_zero("linear")
    }

    fn keeps_best(&self) -> bool {
        self.language.select.is_some()
    }

    fn units(&self, suite: &str, sets: &[String]) -> Vec<Unit> {
        vec![Unit { set: suite.to_owned(), sets: sets.to_vec() }]
    }

    fn describe(&self, unit: &Unit, source: &DataSource, data: &mut DataSets) -> Result<UnitData> {
        let sets = data.texts(&unit.sets, source)?;
        let row = |set: &Rc<TextSet>| SetRow {
            name: set.name().to_owned(),
            counts: set.counts(),
            classes: Some(set.entry().classes).filter(|classes| *classes > 0),
            source: None,
        };
        let rows = sets.iter().map(row).collect();
        Ok(UnitData { checksum: suite_checksum(&sets), sets: rows, mixture: 0 })
    }

    fn base_model(&self, name: &str, kind: Kind, models: &mut Models) -> Result<BaseModel> {
        Ok(BaseModel::Language(models.language(name, kind)?))
    }

    fn steps_depend_on_seed(&self) -> bool {
        self.language.batch_tokens.is_some()
    }

    fn step_choices(&self, batch_size: usize) -> Vec<Memory> {
        self.language.memory.choices(batch_size)
    }

    fn with_memory(&self, protocol: &Protocol, memory: Memory) -> Protocol {
        let language = LanguageProtocol { memory, ..self.language };
        Protocol { instruction_following: Some(Self { language, ..self.clone() }), ..protocol.clone() }
    }

    fn need(&self, run: &Run, model: &NamedArchitecture, shape: GroupShape) -> Result<Need> {
        memory::need(run, self, (&self.language, self.examples.max_length), model, shape)
    }

    fn amounts(&self, run: &Run, sizes: &DataSizes, resources: Option<&mut Resources>) -> Result<Amounts> {
        let of_sets = run.set_names().iter().map(|set| sizes.of_stage(set, run.stage));
        let (rows, mut prompts): (Vec<f64>, Vec<f64>) = of_sets.unzip();
        // All sets share the training rows, and those that settings are selected on.
        let rows = rows.first().copied().unwrap_or(0.0);
        if splits(run.stage).1 == Split::Val {
            prompts.truncate(1);
        }
        let lengths = resources.map_or_else(|| Ok(self.assumed()), |open| self.lengths(run, open))?;
        Ok(Amounts::Texts(amounts(run, &self.language, rows, &prompts, &lengths)))
    }

    fn prepare<'a>(
        &'a self,
        runs: &'a [Run],
        tuned: &Tuned<'_>,
        resources: &mut Resources,
    ) -> Result<Box<dyn PreparedTask + 'a>> {
        let run = &runs[0];
        let BaseModel::Language(model) = tuned.base else {
            anyhow::bail!("instruction following needs a language model")
        };
        let sets = resources.data.texts(&run.sets, &run.data)?;
        if suite_checksum(&sets) != run.data_checksum {
            return Err(RunError::Changed { set: run.set.clone() }.into());
        }
        let data = self.data(run, &sets, model)?;
        let warmup_steps = self.warmup_steps;
        let schedule = move |base, steps| -> Schedule {
            let schedule = Linear { base, warmup_steps, steps };
            Box::new(move |step| schedule.rate(step))
        };
        let reader = model.architecture.build(tuned.weights, tuned.adapters)?;
        Ok(Box::new(Prepared::new(runs, tuned, self.language, reader, data, Box::new(schedule))?))
    }
}

impl InstructionFollowing {
    /// The lengths of commonsense_170k's rows and of the eight sets' prompts.
    fn assumed(&self) -> Lengths {
        let predicted = if self.examples.train_on_inputs { ASSUMED_PREDICTED } else { ASSUMED_ANSWER };
        Lengths::assumed(ASSUMED_EXAMPLE, predicted, ASSUMED_PROMPT, ASSUMED_ANSWER)
    }

    /// The lengths of some of a run's texts.
    fn lengths(&self, run: &Run, resources: &mut Resources) -> Result<Lengths> {
        let model = resources.models.language(&run.backbone, run.protocol.precision.kind())?;
        let sets = resources.data.texts(&run.sets, &run.data)?;
        let (train, evaluated) = splits(run.stage);
        let rows: Vec<Row> = sample(sets.first().map_or(&[][..], |set| set.rows(train))).cloned().collect();
        let (examples, _) = examples(&rows, &self.examples, model.end, |text| model.tokenizer.encode(text))?;
        let answers = rows.iter().map(|row| Ok(model.tokenizer.encode(&row.output)?.len()));
        let answers: Vec<usize> = answers.collect::<Result<_>>()?;
        let asked: Vec<&Row> = sets.iter().flat_map(|set| set.rows(evaluated)).collect();
        let prompts = sample(&asked).map(|row| Ok(model.encode(&evaluation_prompt(row))?.len()));
        let predicted = |example: &Example| example.labels.iter().filter(|label| **label != MASKED).count();
        Ok(Lengths {
            pictured: vec![false; examples.len()],
            predicted: mean_of(examples.iter().map(predicted)),
            examples: examples.iter().map(|example| example.tokens.len()).collect(),
            prompts: prompts.collect::<Result<_>>()?,
            answer: mean_of(answers.into_iter()) + 1.0,
        })
    }

    /// The rows of a run's sets, tokenised.
    fn data(&self, run: &Run, sets: &[Rc<TextSet>], model: &Rc<LoadedLanguageModel>) -> Result<TrainData> {
        let (train, evaluated) = splits(run.stage);
        let rows = sets.first().map_or(&[][..], |set| set.rows(train));
        let (examples, truncation) =
            examples(rows, &self.examples, model.end, |text| model.tokenizer.encode(text))?;
        // All sets share the rows that settings are selected on: one evaluation is enough.
        let sets = if evaluated == Split::Val { &sets[..sets.len().min(1)] } else { sets };
        let eval_set = |set: &Rc<TextSet>| -> Result<Box<dyn EvalSet>> {
            let rows = set.rows(evaluated);
            let prompts = rows.iter().map(|row| model.encode(&evaluation_prompt(row)));
            let prompts = prompts.collect::<Result<_>>()?;
            let dataset = dataset(set.name(), set.entry(), rows.len(), set.checksum())?;
            Ok(Box::new(RowSet { set: set.clone(), read: evaluated, dataset, prompts, model: model.clone() }))
        };
        let eval_sets = sets.iter().map(eval_set).collect::<Result<_>>()?;
        Ok(TrainData { examples, truncation, images: Box::new(NoImages), eval_sets })
    }
}

struct RowSet {
    set: Rc<TextSet>,
    read: Split,
    dataset: Dataset,
    prompts: Vec<Vec<i64>>,
    model: Rc<LoadedLanguageModel>,
}

impl EvalSet for RowSet {
    fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn metric(&self) -> &'static str {
        "accuracy of the answer"
    }

    fn file_stem(&self) -> &str {
        &self.set.entry().name
    }

    fn prompts(&self) -> &[Vec<i64>] {
        &self.prompts
    }

    fn images(&self) -> &dyn ImageFeatures {
        &NoImages
    }

    fn options(&self, prompt: usize) -> Result<Vec<(String, Continuation)>> {
        let (row, tokens) = (&self.set.rows(self.read)[prompt], &self.prompts[prompt]);
        let continued = |option: &&str| {
            let whole = self.model.encode(&(evaluation_prompt(row) + &row.continuation(option)))?;
            // A token may span the end of the prompt.
            let shared = whole.iter().zip(tokens).take_while(|(one, other)| one == other).count();
            let continuation =
                Continuation { prompt: whole[..shared].to_vec(), text: whole[shared..].to_vec() };
            Ok(((*option).to_owned(), continuation))
        };
        row.options().iter().map(continued).collect()
    }

    /// Labels are indices into the answers of the row's format.
    fn judge(&self, answers: &[Answer]) -> EvalJudgement {
        let rows = self.set.rows(self.read);
        let found: Vec<Option<&str>> =
            rows.iter().zip(answers).map(|(row, answer)| found(row, answer)).collect();
        let pairs = rows.iter().zip(&found);
        let score = Score::of(pairs.clone().map(|(row, found)| (*found, row.answer.as_str())));
        let place = |row: &Row, answer: Option<&str>| {
            answer.and_then(|answer| row.label(answer)).map_or(-1, i64::from)
        };
        EvalJudgement {
            score: Some(score.accuracy()),
            no_answer: score.no_answer_rate(),
            further: BTreeMap::new(),
            labels: rows.iter().map(|row| place(row, Some(&row.answer))).collect(),
            predicted: pairs.map(|(row, found)| place(row, *found)).collect(),
        }
    }
}

fn found<'a>(row: &'a Row, answer: &'a Answer) -> Option<&'a str> {
    match answer {
        Answer::Text(text) => row.find_answer(text),
        Answer::Option(option) => option.as_deref(),
    }
}
