//! Visual question answering: questions about images, LLaVA's prompts with placeholders for the tokens of each image,
//! and the benchmarks' own scoring. One model is trained on the questions of all sets, and evaluated on each.

mod choice;
mod evaluation;
mod features;
mod pictures;
mod tower;

use std::rc::Rc;

use anyhow::{Result, bail};
use backbones::step_memory::Need;
use backbones::vlm::llava;
use data_loaders::text::{Example, MASKED, Truncation};
use data_loaders::vl::{
    Conversation, Picture, PictureProtocol, PictureSettings, QuestionSet, QuestionSuite, Template,
    question_only_prior,
};
use san_core::train::schedule::Cosine;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Kind;

use choice::Choice;
use evaluation::QuestionEvalSet;
use features::PictureFeatures;
use pictures::{Pictures, share_passes};

use crate::error::RunError;
use crate::models::picture_text::PictureText;
use crate::models::reader::ReaderArchitecture;
use crate::models::{BaseModel, LoadedLanguageModel, NamedArchitecture};
use crate::resources::{DataSets, DataSource, Models, Resources};
use crate::tasks::language::amounts::{Lengths, amounts, sample};
use crate::tasks::language::data::{EvalSet, TrainData};
use crate::tasks::language::{AnswerDecoding, LanguageProtocol, Memory, Prepared, memory};
use crate::tasks::protocol::check_counts;
use crate::tasks::schedule::from_and_to_zero;
use crate::tasks::{
    Amounts, DataSizes, GroupShape, PreparedTask, Protocol, Run, SetRow, Task, TextAmounts, TowerAmounts,
    Tuned, Unit, UnitData, dataset, splits,
};
use crate::train::task::Schedule;

/// Conversations that are looked at where several may share a pass.
const SHARING_SAMPLE: usize = 512;
/// Mean tokens where texts are not there to be measured, as in LLaVA's mixture and the seven benchmarks: of a
/// conversation with the 576 of its picture, of its answers, of a prompt, and of one answer.
const ASSUMED_EXAMPLE: usize = 900;
const ASSUMED_ANSWERS: usize = 150;
const ASSUMED_PROMPT: usize = 660;
const ASSUMED_ANSWER: usize = 8;

/// The protocol of visual question answering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisualQuestionAnswering {
    /// How an image becomes the tower's input; what is omitted is as in the training of the tower.
    #[serde(default, skip_serializing_if = "PictureSettings::is_empty")]
    pub picture: PictureSettings,
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
    /// Batches, memory and generation.
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
            return Err("`decoding: likelihood` needs answer options, but the answers are free-form".into());
        }
        if self.template == Template::Plain {
            return Err("the template `plain` omits the questions".into());
        }
        if !(0.0..1.0).contains(&self.warmup_ratio) {
            return Err("`warmup_ratio` is a fraction of the steps: at least 0 and below 1".into());
        }
        let pack = self.questions_per_sequence as i128;
        check_counts(&[("max_length", self.max_length as i128), ("questions_per_sequence", pack)])?;
        let usable = |rate: f64| rate > 0.0 && rate.is_finite();
        if self.projector.is_some_and(|projector| !usable(projector.learning_rate)) {
            return Err("the `learning_rate` of the `projector` must be above 0".into());
        }
        Ok(())
    }

    fn recorded_schedule(&self) -> Value {
        from_and_to_zero("cosine")
    }

    fn keeps_best(&self) -> bool {
        self.language.select.is_some()
    }

    fn units(&self, suite: &str, sets: &[String]) -> Vec<Unit> {
        vec![Unit { set: suite.to_owned(), sets: sets.to_vec() }]
    }

    fn describe(&self, unit: &Unit, source: &DataSource, data: &mut DataSets) -> Result<UnitData> {
        let suite = data.questions(&unit.sets, source, self.picture()?.image_size)?;
        let row = |set: &QuestionSet| SetRow {
            name: set.name().to_owned(),
            counts: set.counts(),
            classes: None,
            source: None,
        };
        let sets = suite.sets().iter().map(row).collect();
        Ok(UnitData { checksum: suite.checksum().to_owned(), sets, mixture: suite.mixture().len() })
    }

    fn base_model(&self, name: &str, kind: Kind, models: &mut Models) -> Result<BaseModel> {
        Ok(BaseModel::Language(models.llava(name, self.picture()?.image_size, kind)?))
    }

    fn modules_to_save(&self) -> Option<(Vec<String>, f64)> {
        let names = llava::Architecture::projector_tensors().to_vec();
        self.projector.map(|projector| (names, projector.learning_rate))
    }

    /// Examples differ in their numbers of images, so that those of two seeds cannot be stacked.
    fn steps_depend_on_seed(&self) -> bool {
        true
    }

    fn cached_features(&self, run: &Run, resources: &mut Resources) -> Result<Option<(usize, u64)>> {
        let NamedArchitecture::Llava(architecture) = resources.models.architecture(&run.backbone)? else {
            bail!("visual question answering needs a vision-language model")
        };
        let size = self.picture()?.image_size;
        let suite = resources.data.questions(&run.sets, &run.data, size)?;
        let pictures = suite.pictures().collect::<Pictures>().all().len();
        let tower = architecture.tower.at_image_size(i64::from(size))?;
        let table = tower::table(&*tower, run.protocol.precision.kind(), pictures, String::new());
        Ok(Some((pictures, table.bytes())))
    }

    fn step_choices(&self, batch_size: usize) -> Vec<Memory> {
        self.language.memory.choices(batch_size)
    }

    fn with_memory(&self, protocol: &Protocol, memory: Memory) -> Protocol {
        let language = LanguageProtocol { memory, ..self.language };
        Protocol { visual_question_answering: Some(Self { language, ..self.clone() }), ..protocol.clone() }
    }

    fn need(&self, run: &Run, model: &NamedArchitecture, shape: GroupShape) -> Result<Need> {
        memory::need(run, self, (&self.language, self.max_length), model, shape)
    }

    #[allow(clippy::cast_precision_loss)]
    fn amounts(&self, run: &Run, sizes: &DataSizes, resources: Option<&mut Resources>) -> Result<Amounts> {
        let of_sets = run.set_names().iter().map(|set| sizes.of_stage(set, run.stage));
        let (trained, prompts): (Vec<f64>, Vec<f64>) = of_sets.unzip();
        let conversations = trained.iter().sum::<f64>() + sizes.mixture as f64;
        let asked: f64 = prompts.iter().sum();
        let Sampled { lengths, examples, pictures, pictured } = match resources {
            Some(open) => self.sampled(run, open)?,
            None => Sampled {
                lengths: Lengths::assumed(ASSUMED_EXAMPLE, ASSUMED_ANSWERS, ASSUMED_PROMPT, ASSUMED_ANSWER),
                examples: 1.0,
                pictures: conversations + asked,
                pictured: 1.0,
            },
        };
        let examples = conversations * examples;
        let amounts = amounts(run, &self.language, examples, &prompts, &lengths);
        let tower = TowerAmounts { pictures, trained: examples * pictured, evaluated: asked };
        Ok(Amounts::Texts(TextAmounts { tower: Some(tower), ..amounts }))
    }

    fn prepare<'a>(
        &'a self,
        runs: &'a [Run],
        tuned: &Tuned<'_>,
        resources: &mut Resources,
    ) -> Result<Box<dyn PreparedTask + 'a>> {
        let run = &runs[0];
        let BaseModel::Language(model) = tuned.base else {
            bail!("visual question answering needs a vision-language model")
        };
        let suite = resources.data.questions(&run.sets, &run.data, self.picture()?.image_size)?;
        if suite.checksum() != run.data_checksum {
            return Err(RunError::Changed { set: run.set.clone() }.into());
        }
        let reader = model.architecture.build(tuned.weights, tuned.adapters)?;
        let data = self.data(run, &suite, tuned, model, resources)?;
        let warmup_ratio = self.warmup_ratio;
        let schedule = move |base, steps: u64| -> Schedule {
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let warmup_steps = (warmup_ratio * steps as f64).ceil() as u64;
            let schedule =
                Cosine { base, warmup_start: 0.0, warmup_steps, floor: 0.0, steps, warmup_prefix: true };
            Box::new(move |step| schedule.rate(step))
        };
        Ok(Box::new(Prepared::new(runs, tuned, self.language, reader, data, Box::new(schedule))?))
    }
}

/// What some of a run's texts say about all of them.
struct Sampled {
    lengths: Lengths,
    /// Training examples per conversation.
    examples: f64,
    /// Different pictures of all conversations and questions.
    pictures: f64,
    /// Share of the training examples with a picture.
    pictured: f64,
}

impl VisualQuestionAnswering {
    /// The lengths of some of a run's texts.
    #[allow(clippy::cast_precision_loss)]
    fn sampled(&self, run: &Run, resources: &mut Resources) -> Result<Sampled> {
        let size = self.picture()?.image_size;
        let model = resources.models.llava(&run.backbone, size, run.protocol.precision.kind())?;
        let suite = resources.data.questions(&run.sets, &run.data, size)?;
        let ReaderArchitecture::Llava(architecture, _) = &model.architecture else {
            bail!("visual question answering needs a vision-language model")
        };
        let texts = PictureText::new(architecture, &model.tokenizer, model.end, self.template)?;
        let (train, evaluated) = splits(run.stage);
        let conversations = suite.conversations(train)?;
        // Neighbours, since questions about one picture may share a pass.
        let some = match self.questions_per_sequence {
            1 => sample(&conversations).collect::<Vec<_>>(),
            _ => conversations.iter().take(SHARING_SAMPLE).collect(),
        };
        let example = |one: &&Conversation| texts.example(one, self.max_length, &mut Truncation::default());
        let examples: Vec<Example> = some.iter().map(example).collect::<Result<_>>()?;
        let asked: Vec<_> = suite.sets().iter().flat_map(|set| set.questions(evaluated)).collect();
        let pictures = conversations.iter().filter_map(|one| one.picture.as_ref());
        let pictures: Pictures = pictures.chain(asked.iter().map(|one| &one.picture)).collect();
        let places = some.iter().map(|one| pictures.place(one.picture.as_ref())).collect();
        let (examples, places) = share_passes(examples, places, self.questions_per_sequence);
        let predicted = |example: &Example| example.labels.iter().filter(|label| **label != MASKED).count();
        let turns: usize = some.iter().map(|one| one.turns.len()).sum();
        let predicted_tokens: usize = examples.iter().map(predicted).sum();
        let prompts = sample(&asked).map(|one| Ok(texts.prompt(&one.prompt)?.len()));
        let with_picture = places.iter().flatten().count();
        Ok(Sampled {
            examples: examples.len() as f64 / some.len().max(1) as f64,
            pictures: pictures.all().len() as f64,
            pictured: with_picture as f64 / places.len().max(1) as f64,
            lengths: Lengths {
                pictured: places.iter().map(Option::is_some).collect(),
                predicted: predicted_tokens as f64 / examples.len().max(1) as f64,
                examples: examples.iter().map(|example| example.tokens.len()).collect(),
                prompts: prompts.collect::<Result<_>>()?,
                // The end of an answer is predicted too.
                answer: predicted_tokens as f64 / turns.max(1) as f64,
            },
        })
    }

    /// How an image becomes the tower's input, once the model is known.
    fn picture(&self) -> Result<PictureProtocol> {
        let missing = |field| anyhow::anyhow!("`visual_question_answering.picture.{field}` is missing");
        self.picture.complete().map_err(missing)
    }

    /// The tokenised questions of a run's sets, and where the tower's features of their pictures come from.
    fn data(
        &self,
        run: &Run,
        suite: &QuestionSuite,
        tuned: &Tuned<'_>,
        model: &LoadedLanguageModel,
        resources: &Resources,
    ) -> Result<TrainData> {
        let ReaderArchitecture::Llava(architecture, _) = &model.architecture else {
            bail!("visual question answering needs a vision-language model")
        };
        let (train, evaluated) = splits(run.stage);
        let conversations = suite.conversations(train)?;
        let choice = Choice {
            run,
            suite,
            conversations: &conversations,
            protocol: self.picture()?,
            model,
            tuned,
            resources,
        };
        let source = Rc::new(choice.source()?);
        let texts = PictureText::new(architecture, &model.tokenizer, model.end, self.template)?;
        let mut truncation = Truncation::default();
        let examples = conversations.iter().map(|one| texts.example(one, self.max_length, &mut truncation));
        let examples: Vec<Example> = examples.collect::<Result<_>>()?;
        let place = |picture: Option<&Picture>| source.pictures.place(picture);
        let places = conversations.iter().map(|one| place(one.picture.as_ref())).collect();
        let (examples, places) = share_passes(examples, places, self.questions_per_sequence);
        let eval_set = |set: &QuestionSet| -> Result<Box<dyn EvalSet>> {
            let questions = set.questions(evaluated);
            let prompts = questions.iter().map(|one| texts.prompt(&one.prompt)).collect::<Result<_>>()?;
            let places = questions.iter().map(|one| place(Some(&one.picture))).collect();
            Ok(Box::new(QuestionEvalSet {
                name: set.entry().name.clone(),
                form: set.entry().questions.map(|questions| questions.form),
                dataset: dataset(set.name(), set.entry(), questions.len(), set.checksum())?,
                prompts,
                images: PictureFeatures::new(&source, places),
                questions: questions.to_vec(),
                also_submitted: set.also_submitted().to_vec(),
                prior: question_only_prior(set.questions(train), questions),
            }))
        };
        let eval_sets = suite.sets().iter().map(eval_set).collect::<Result<_>>()?;
        let images = Box::new(PictureFeatures::new(&source, places));
        Ok(TrainData { examples, truncation, images, eval_sets })
    }
}
