//! Visual question answering: questions about images, LLaVA's prompts with placeholders for the tokens of each image,
//! and the benchmarks' own scoring. One model is trained on the questions of all sets, and evaluated on each.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use backbones::vlm::llava;
use data_loaders::QuestionForm;
use data_loaders::text::{Example, Truncation};
use data_loaders::vl::{
    Answered, Judgement, Key, Picture, PictureProtocol, Question, QuestionSet, QuestionSuite, Tally,
    Template, YesNoCounts, question_only_prior,
};
use report::record::Dataset;
use san_core::train::schedule::Cosine;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor, no_grad};

use crate::error::RunError;
use crate::models::picture_text::PictureText;
use crate::models::reader::{Reader, ReaderArchitecture};
use crate::models::{BaseModel, LoadedLanguageModel};
use crate::resources::{DataSets, DataSource, FeatureCache, Features, Models, Resources};
use crate::tasks::language::data::{Answer, EvalJudgement, EvalSet, ImageFeatures, TrainData};
use crate::tasks::language::{AnswerDecoding, LanguageProtocol, Prepared};
use crate::tasks::protocol::check_counts;
use crate::tasks::{PreparedTask, Run, SetRow, Task, Tuned, Unit, UnitData, dataset, splits};

/// Images per forward pass of the tower.
const TOWER_BATCH: usize = 64;

/// The protocol of visual question answering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisualQuestionAnswering {
    /// How an image becomes the tower's input.
    pub picture: PictureProtocol,
    /// The conversation template of a question.
    pub template: Template,
    /// Maximum number of tokens in an example, including those of its image; it is truncated on the right.
    pub max_length: usize,
    /// Whether and how the projector is trained in full in addition to every method; if omitted, it is trained as the
    /// method does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<ProjectorProtocol>,
    /// Share of the steps used for linear warm-up; cosine decay follows. LLaVA's is 0.03.
    pub warmup_ratio: f64,
    /// Maximum number of training questions about one image that share a forward pass over it; `batch_size` counts such
    /// passes. Questions do not attend to each other, so the loss is that of single questions. 1 if omitted.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub questions_per_sequence: usize,
    /// Batches, precision, memory and generation.
    pub language: LanguageProtocol,
}

/// How a projector is trained in full in addition to a method.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectorProtocol {
    /// The peak learning rate, above 0, on the method's schedule. LLaVA's is 2e-5.
    pub learning_rate: f64,
}

fn one() -> usize {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde requires
fn is_one(number: &usize) -> bool {
    *number == 1
}

impl Task for VisualQuestionAnswering {
    fn name(&self) -> &'static str {
        "visual_question_answering"
    }

    fn check(&self, _: u64) -> Result<(), String> {
        self.language.check()?;
        if self.language.decoding == AnswerDecoding::Likelihood {
            return Err("`decoding: likelihood` needs listed answers, and these are free".into());
        }
        if self.template == Template::Plain {
            return Err("the template `plain` leaves questions out".into());
        }
        if !(0.0..1.0).contains(&self.warmup_ratio) {
            return Err("`warmup_ratio` is a share of the steps, 0 or more and below 1".into());
        }
        let pack = self.questions_per_sequence as u64;
        check_counts(&[("max_length", self.max_length as u64), ("questions_per_sequence", pack)])?;
        let usable = |rate: f64| rate > 0.0 && rate.is_finite();
        if self.projector.is_some_and(|projector| !usable(projector.learning_rate)) {
            return Err("the `learning_rate` of the `projector` must be above 0".into());
        }
        Ok(())
    }

    fn units(&self, suite: &str, sets: &[String]) -> Vec<Unit> {
        vec![Unit { set: suite.to_owned(), sets: sets.to_vec() }]
    }

    fn describe(&self, unit: &Unit, source: &DataSource, data: &mut DataSets) -> Result<UnitData> {
        let suite = data.questions(&unit.sets, source, self.picture.image_size)?;
        let row =
            |set: &QuestionSet| SetRow { name: set.name().to_owned(), counts: set.counts(), classes: None };
        Ok(UnitData { checksum: suite.checksum().to_owned(), sets: suite.sets().iter().map(row).collect() })
    }

    fn base_model(&self, name: &str, models: &mut Models) -> Result<BaseModel> {
        let kind = self.language.precision.kind();
        Ok(BaseModel::Language(models.llava(name, self.picture.image_size, kind)?))
    }

    fn modules_to_save(&self) -> Option<(Vec<String>, f64)> {
        let names = llava::Architecture::projector_tensors().to_vec();
        self.projector.map(|projector| (names, projector.learning_rate))
    }

    fn prepare<'a>(
        &'a self,
        run: &'a Run,
        tuned: &Tuned<'_>,
        resources: &mut Resources,
    ) -> Result<Box<dyn PreparedTask + 'a>> {
        let BaseModel::Language(model) = tuned.base else {
            bail!("questions about pictures need a vision-language model")
        };
        let suite = resources.data.questions(&run.sets, &run.data, self.picture.image_size)?;
        if suite.checksum() != run.data_checksum {
            return Err(RunError::Changed { set: run.set.clone() }.into());
        }
        let reader = model.architecture.build(&model.weights, tuned.adapters)?;
        let data = self.data(run, &suite, model, &reader, tuned.device, &mut resources.features)?;
        let warmup_ratio = self.warmup_ratio;
        let schedule = move |base, steps: u64| -> Box<dyn Fn(u64) -> f64> {
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let warmup_steps = (warmup_ratio * steps as f64).ceil() as u64;
            let schedule = Cosine { base, warmup_start: 0.0, warmup_steps, floor: 0.0, steps };
            Box::new(move |step| schedule.rate(step))
        };
        Ok(Box::new(Prepared::new(run, tuned, self.language, reader, data, Box::new(schedule))?))
    }
}

impl VisualQuestionAnswering {
    /// The tokenised questions of a run's sets, with the tower's features of their images.
    fn data(
        &self,
        run: &Run,
        suite: &QuestionSuite,
        model: &LoadedLanguageModel,
        reader: &Reader,
        device: Device,
        features: &mut FeatureCache,
    ) -> Result<TrainData> {
        let ReaderArchitecture::Llava(architecture, _) = &model.architecture else {
            bail!("questions about pictures need a vision-language model")
        };
        let (train, evaluated) = splits(run.stage);
        let conversations = suite.conversations(train)?;
        let mut pictures = PictureCache::default();
        conversations.iter().for_each(|one| one.picture.iter().for_each(|picture| pictures.add(picture)));
        suite
            .sets()
            .iter()
            .flat_map(|set| set.questions(evaluated))
            .for_each(|one| pictures.add(&one.picture));
        let tokens = pictures.encode_images(run, &self.picture, reader, device, features)?;

        let texts = PictureText::new(architecture, &model.tokenizer, model.end, self.template)?;
        let mut truncation = Truncation::default();
        let examples = conversations.iter().map(|one| texts.example(one, self.max_length, &mut truncation));
        let examples: Vec<Example> = examples.collect::<Result<_>>()?;
        let images = pictures.features_of(conversations.iter().map(|one| one.picture.as_ref()), &tokens);
        let (examples, images) = share_passes(examples, images, self.questions_per_sequence);
        let eval_set = |set: &QuestionSet| -> Result<Box<dyn EvalSet>> {
            let questions = set.questions(evaluated);
            let prompts = questions.iter().map(|one| texts.prompt(&one.prompt)).collect::<Result<_>>()?;
            Ok(Box::new(AskedSet {
                name: set.entry().name.clone(),
                form: set.entry().questions.map(|questions| questions.form),
                dataset: dataset(set.name(), set.entry(), questions.len(), set.checksum())?,
                prompts,
                images: pictures.features_of(questions.iter().map(|one| Some(&one.picture)), &tokens),
                questions: questions.to_vec(),
                prior: question_only_prior(set.questions(train), questions),
            }))
        };
        let eval_sets = suite.sets().iter().map(eval_set).collect::<Result<_>>()?;
        Ok(TrainData { examples, truncation, images: Box::new(images), eval_sets })
    }
}

/// Groups up to `most` examples about the same image into one, in their original order.
fn share_passes(
    examples: Vec<Example>,
    pictures: PictureFeatures,
    most: usize,
) -> (Vec<Example>, PictureFeatures) {
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
    (examples, PictureFeatures { places, ..pictures })
}

/// Each image once, in the order of first use.
#[derive(Default)]
struct PictureCache {
    pictures: Vec<Picture>,
    places: HashMap<String, usize>,
}

impl PictureCache {
    fn add(&mut self, picture: &Picture) {
        if let Entry::Vacant(place) = self.places.entry(picture.identity()) {
            place.insert(self.pictures.len());
            self.pictures.push(picture.clone());
        }
    }

    /// The tower's features `[pictures, tokens, width]` of all images, cached for the next run.
    fn encode_images(
        &self,
        run: &Run,
        protocol: &PictureProtocol,
        reader: &Reader,
        device: Device,
        features: &mut FeatureCache,
    ) -> Result<Tensor> {
        let Reader::Llava(llava) = reader else {
            bail!("a language model without a vision tower reads no pictures")
        };
        let key = format!("{} {} {:?} {protocol:?}", run.data_checksum, run.weights_checksum, run.stage);
        if let Some(known) = features.get(&key) {
            return Ok(known.tensor.shallow_clone());
        }
        let size = i64::from(protocol.image_size);
        let (start, mut reading, mut parts) = (Instant::now(), Duration::ZERO, Vec::new());
        for some in self.pictures.chunks(TOWER_BATCH) {
            let start = Instant::now();
            let pixels = protocol.read(&run.set_label(), &some.iter().collect::<Vec<_>>())?;
            reading += start.elapsed();
            let images = Tensor::f_from_slice(&pixels)?.f_view([-1, 3, size, size])?.f_to_device(device)?;
            parts.push(no_grad(|| llava.encode_images(&images)));
        }
        let tensor = Tensor::f_cat(&parts, 0)?;
        let computing = start.elapsed().saturating_sub(reading);
        features.insert(key, Features { tensor: tensor.shallow_clone(), computing, reading });
        Ok(tensor)
    }

    /// The features of the images of examples or prompts, some of which may have none.
    fn features_of<'a>(
        &self,
        pictures: impl Iterator<Item = Option<&'a Picture>>,
        tokens: &Tensor,
    ) -> PictureFeatures {
        let place = |picture: &Picture| self.places.get(&picture.identity()).map(|place| *place as i64);
        let places = pictures.map(|picture| picture.and_then(place)).collect();
        PictureFeatures { tokens: tokens.shallow_clone(), places }
    }
}

/// The tower's features of the images of examples or prompts: indices into the features of all images.
struct PictureFeatures {
    tokens: Tensor,
    places: Vec<Option<i64>>,
}

impl ImageFeatures for PictureFeatures {
    fn features(&self, examples: &[usize]) -> Result<Option<Tensor>> {
        let places: Vec<i64> = examples.iter().filter_map(|&example| self.places[example]).collect();
        if places.is_empty() {
            return Ok(None);
        }
        let places = Tensor::f_from_slice(&places)?.f_to_device(self.tokens.device())?;
        Ok(Some(self.tokens.f_index_select(0, &places)?))
    }
}

struct AskedSet {
    name: String,
    form: Option<QuestionForm>,
    dataset: Dataset,
    prompts: Vec<Vec<i64>>,
    images: PictureFeatures,
    questions: Vec<Question>,
    prior: Option<f64>,
}

impl EvalSet for AskedSet {
    fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn metric(&self) -> &'static str {
        match self.questions.first().map(|question| &question.key) {
            Some(Key::Vqa(_) | Key::TextVqa(_)) => "VQA soft accuracy",
            Some(Key::YesNo(_)) => "F1",
            Some(Key::Choice { .. } | Key::Letter { .. }) => "accuracy of the option",
            Some(Key::Exact(_)) => "exact match",
            Some(Key::Withheld) | None => "score of a server",
        }
    }

    fn file_stem(&self) -> &str {
        &self.name
    }

    fn prompts(&self) -> &[Vec<i64>] {
        &self.prompts
    }

    fn images(&self) -> &dyn ImageFeatures {
        &self.images
    }

    fn max_new_tokens(&self, most: i64) -> i64 {
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

    /// Labels are 1; a prediction is 1 if its score is above 0.5, and 0 otherwise.
    fn judge(&self, answers: &[Answer]) -> EvalJudgement {
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
        EvalJudgement {
            score: tally.score(),
            no_answer: tally.no_answer_rate(),
            further: further(&tally, self.prior),
            labels: vec![1; judged.len()],
            predicted: judged.iter().map(number).collect(),
        }
    }
}

/// The name of a metric, and how it is computed from counts.
type Named = (&'static str, fn(&YesNoCounts) -> f64);

/// POPE's metrics, each a mean over its parts, and the accuracy of the question-only prior.
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
