//! Questions about pictures as material: the tower's tokens of each picture, made once; LLaVA's texts with a place for
//! each of them; and the benchmarks' own scoring.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use data_loaders::QuestionForm;
use data_loaders::text::{Example, Truncation};
use data_loaders::vl::{
    Answered, Judgement, Picture, PictureProtocol, Question, QuestionSet, Tally, YesNoCounts,
    question_only_prior,
};
use report::record::Dataset;
use tch::{Tensor, no_grad};

use crate::config::experiment::QuestionProtocol;
use crate::models::picture_text::PictureText;
use crate::models::reader::{Reader, ReaderArchitecture};
use crate::plan::cell::Cell;
use crate::resources::context::{Context, Features, LoadedLanguageModel};
use crate::tasks::material::{Answer, Exam, Judged, Material, Pictures};
use crate::tasks::{dataset, require_planned_data, splits};

/// Pictures in one forward pass of the tower.
const TOWER_BATCH: usize = 64;

/// The questions of a cell's sets.
pub(super) fn material(
    cell: &Cell,
    protocol: &QuestionProtocol,
    model: &LoadedLanguageModel,
    reader: &Reader,
    context: &mut Context,
) -> Result<Material> {
    let ReaderArchitecture::Llava(architecture, _) = &model.architecture else {
        bail!("questions about pictures want a model that sees them")
    };
    let suite = context.questions(&cell.sets, &cell.data, protocol.picture.image_size)?;
    require_planned_data(cell, suite.checksum())?;
    let (train, read) = splits(cell.stage);
    let conversations = suite.conversations(train)?;
    let mut album = Album::default();
    conversations.iter().for_each(|one| one.picture.iter().for_each(|picture| album.add(picture)));
    suite.sets().iter().flat_map(|set| set.questions(read)).for_each(|one| album.add(&one.picture));
    let seen = album.seen(cell, &protocol.picture, reader, context)?;

    let texts = PictureText::new(architecture, &model.tokenizer, model.end, protocol.template)?;
    let mut truncation = Truncation::default();
    let examples = conversations.iter().map(|one| texts.example(one, protocol.cutoff, &mut truncation));
    let examples: Vec<Example> = examples.collect::<Result<_>>()?;
    let pictures = album.shown(conversations.iter().map(|one| one.picture.as_ref()), &seen);
    let (examples, pictures) = together(examples, pictures, protocol.together);
    let exam = |set: &QuestionSet| -> Result<Box<dyn Exam>> {
        let questions = set.questions(read);
        let prompts = questions.iter().map(|one| texts.prompt(&one.prompt)).collect::<Result<_>>()?;
        Ok(Box::new(QuestionExam {
            name: set.entry().name.clone(),
            form: set.entry().questions.map(|questions| questions.form),
            dataset: dataset(set.name(), set.entry(), questions.len(), set.checksum())?,
            prompts,
            pictures: album.shown(questions.iter().map(|one| Some(&one.picture)), &seen),
            questions: questions.to_vec(),
            prior: question_only_prior(set.questions(train), questions),
        }))
    };
    let exams = suite.sets().iter().map(exam).collect::<Result<_>>()?;
    Ok(Material { examples, truncation, pictures: Box::new(pictures), exams })
}

/// Up to `most` examples about the same picture as one, in the order in which they stood.
fn together(examples: Vec<Example>, pictures: Shown, most: usize) -> (Vec<Example>, Shown) {
    if most == 1 {
        return (examples, pictures);
    }
    let mut groups: Vec<(Option<i64>, Vec<Example>)> = Vec::new();
    let mut open: HashMap<i64, usize> = HashMap::new();
    for (example, picture) in examples.into_iter().zip(&pictures.places) {
        let group =
            picture.and_then(|picture| open.get(&picture)).filter(|group| groups[**group].1.len() < most);
        if let Some(&group) = group {
            groups[group].1.push(example);
            continue;
        }
        picture.map(|picture| open.insert(picture, groups.len()));
        groups.push((*picture, vec![example]));
    }
    let (places, examples) = groups
        .into_iter()
        .map(|(picture, mut group)| {
            let example = if group.len() == 1 { group.remove(0) } else { Example::sharing(&group) };
            (picture, example)
        })
        .unzip();
    (examples, Shown { places, ..pictures })
}

/// Each picture once, in the order in which they were met.
#[derive(Default)]
struct Album {
    pictures: Vec<Picture>,
    places: HashMap<String, usize>,
}

impl Album {
    fn add(&mut self, picture: &Picture) {
        if let Entry::Vacant(place) = self.places.entry(picture.identity()) {
            place.insert(self.pictures.len());
            self.pictures.push(picture.clone());
        }
    }

    /// The tower's tokens `[pictures, tokens, width]` of all of them, kept for the next cell.
    fn seen(
        &self,
        cell: &Cell,
        protocol: &PictureProtocol,
        reader: &Reader,
        context: &mut Context,
    ) -> Result<Tensor> {
        let Reader::Llava(llava) = reader else { bail!("a model without eyes sees no pictures") };
        let key = format!("{} {} {:?} {protocol:?}", cell.data_checksum, cell.weights_checksum, cell.stage);
        if let Some(known) = context.features(&key) {
            return Ok(known.tensor.shallow_clone());
        }
        let (size, device) = (i64::from(protocol.image_size), context.device());
        let (start, mut reading, mut parts) = (Instant::now(), Duration::ZERO, Vec::new());
        for some in self.pictures.chunks(TOWER_BATCH) {
            let start = Instant::now();
            let pixels = protocol.read(&cell.set_label(), &some.iter().collect::<Vec<_>>())?;
            reading += start.elapsed();
            let images = Tensor::f_from_slice(&pixels)?.f_view([-1, 3, size, size])?.f_to_device(device)?;
            parts.push(no_grad(|| llava.see(&images)));
        }
        let tensor = Tensor::f_cat(&parts, 0)?;
        let computing = start.elapsed().saturating_sub(reading);
        context.remember_features(key, Features { tensor: tensor.shallow_clone(), computing, reading });
        Ok(tensor)
    }

    /// The pictures that belong to examples or prompts, none where one has none.
    fn shown<'a>(&self, pictures: impl Iterator<Item = Option<&'a Picture>>, seen: &Tensor) -> Shown {
        let place = |picture: &Picture| self.places.get(&picture.identity()).map(|place| *place as i64);
        let places = pictures.map(|picture| picture.and_then(place)).collect();
        Shown { seen: seen.shallow_clone(), places }
    }
}

/// The pictures of examples or prompts, as places among all that was seen.
struct Shown {
    seen: Tensor,
    places: Vec<Option<i64>>,
}

impl Pictures for Shown {
    fn seen(&self, examples: &[usize]) -> Result<Option<Tensor>> {
        let places: Vec<i64> = examples.iter().filter_map(|&example| self.places[example]).collect();
        if places.is_empty() {
            return Ok(None);
        }
        let places = Tensor::f_from_slice(&places)?.f_to_device(self.seen.device())?;
        Ok(Some(self.seen.f_index_select(0, &places)?))
    }
}

struct QuestionExam {
    name: String,
    form: Option<QuestionForm>,
    dataset: Dataset,
    prompts: Vec<Vec<i64>>,
    pictures: Shown,
    questions: Vec<Question>,
    prior: Option<f64>,
}

impl Exam for QuestionExam {
    fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn file_stem(&self) -> &str {
        &self.name
    }

    fn prompts(&self) -> &[Vec<i64>] {
        &self.prompts
    }

    fn pictures(&self) -> &dyn Pictures {
        &self.pictures
    }

    fn new_tokens(&self, most: i64) -> i64 {
        match self.form {
            Some(QuestionForm::Benchmark(benchmark)) => most.min(benchmark.new_tokens()),
            _ => most,
        }
    }

    fn submission(&self, answers: &[Answer]) -> Result<Option<(&'static str, Vec<u8>)>> {
        let Some(QuestionForm::Benchmark(benchmark)) = self.form else { return Ok(None) };
        let answered = |(question, answer): (&Question, &Answer)| question.answered(answer.words());
        let answered: Vec<Answered> = self.questions.iter().zip(answers).map(answered).collect();
        Ok(match benchmark.submission(&answered) {
            Some((name, file)) => Some((name, file?)),
            None => None,
        })
    }

    /// The right answer has the number 1; so has one whose score is above a half, and any other 0.
    fn judge(&self, answers: &[Answer]) -> Judged {
        let judged: Vec<Judgement> = self
            .questions
            .iter()
            .zip(answers)
            .map(|(question, answer)| question.key.judge(answer.words()))
            .collect();
        let mut tally = Tally::default();
        for (question, judged) in self.questions.iter().zip(&judged) {
            tally.add(&question.key, &question.part, judged);
        }
        let number = |judged: &Judgement| match judged.score {
            _ if !judged.answered => -1,
            Some(score) => i64::from(score > 0.5),
            None => -1,
        };
        Judged {
            accuracy: tally.score(),
            no_answer: tally.no_answer_rate(),
            further: further(&tally, self.prior),
            labels: vec![1; judged.len()],
            predicted: judged.iter().map(number).collect(),
        }
    }
}

/// A number of counts, and its name.
type Named = (&'static str, fn(&YesNoCounts) -> f64);

/// POPE's numbers, each a mean over its parts; and what a reader that never looks reaches.
fn further(tally: &Tally, prior: Option<f64>) -> BTreeMap<String, f64> {
    let parts = tally.parts();
    let numbers: [Named; 5] = [
        ("accuracy", YesNoCounts::accuracy),
        ("precision", YesNoCounts::precision),
        ("recall", YesNoCounts::recall),
        ("f1", YesNoCounts::f1),
        ("yes_ratio", YesNoCounts::yes_ratio),
    ];
    #[allow(clippy::cast_precision_loss)]
    let mean = |number: fn(&YesNoCounts) -> f64| parts.values().map(number).sum::<f64>() / parts.len() as f64;
    let of_parts = numbers.iter().filter(|_| !parts.is_empty());
    let of_parts = of_parts.map(|(name, number)| ((*name).to_owned(), mean(*number)));
    of_parts.chain(prior.map(|prior| ("question_only_prior".to_owned(), prior))).collect()
}
