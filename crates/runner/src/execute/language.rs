//! Cells of language: a model tuned once on a suite's rows, and read on each of its sets.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use backbones::generate::{Continuation, Limits, Prompts, generate, likelihoods};
use backbones::language::LanguageModel;
use data_loaders::Split;
use data_loaders::text::{
    Example, MASKED, PaddedBatch, PaddingSide, Row, Score, TextSet, Truncation, best_option, continuation,
    evaluation_batches, evaluation_prompt, examples, training_batches, unweighted_average,
};
use report::record::{self, Dataset, Evaluation, Forgetting, Metrics, State};
use san_core::Attachment;
use san_core::adapter_file::{self, AdapterHeader};
use san_core::attachment::Scope;
use san_core::merge::merge;
use san_core::methods::{self, Method};
use san_core::schedule::Linear;
use tch::{Device, Kind, Tensor, no_grad};

use super::{Outcome, parameters, splits};
use crate::cell::Cell;
use crate::context::{Context, LoadedLanguageModel};
use crate::experiment::{Reading, TextProtocol};
use crate::files::write_atomically;
use crate::predictions;
use crate::signals::StopFlag;
use crate::training::{Learner, Objective, Place, Session};

/// Most tokens that are read of the text on which forgetting is measured.
const NEUTRAL_TOKENS: usize = 512;

/// See [`super::execute`].
pub(super) fn execute(
    cell: &Cell,
    text: &TextProtocol,
    context: &mut Context,
    folder: &Path,
    session: &mut Session<'_>,
) -> Result<Outcome> {
    let mut run = session.stop.interruptible(|| Run::prepare(cell, text, context))?;
    run.learner.restore(session.checkpoint)?;
    match run.carry_out(folder, session) {
        Ok((state, evaluations, adapter_bytes)) => run.into_outcome(state, evaluations, adapter_bytes),
        Err(error) => {
            run.learner.keep(&error, &run.task, session.checkpoint)?;
            Err(error)
        }
    }
}

/// A cell in memory.
struct Run<'a> {
    cell: &'a Cell,
    text: &'a TextProtocol,
    method: Box<dyn Method>,
    loaded: Rc<LoadedLanguageModel>,
    attachment: Attachment,
    learner: Learner,
    task: Task<'a>,
    sets: Vec<Rc<TextSet>>,
    truncation: Truncation,
    merge_difference: Option<f64>,
    forgetting: Option<Forgetting>,
    evaluation: Duration,
}

/// What is learnt from: rows in tokens.
struct Task<'a> {
    cell: &'a Cell,
    text: &'a TextProtocol,
    model: Box<dyn LanguageModel>,
    examples: Vec<Example>,
    device: Device,
}

impl Objective for Task<'_> {
    /// Tokens `[rows, length]`, padded on the right, and the places `[n]` of the flattened
    /// `[rows, length - 1]` behind which a token is predicted.
    type Batch = (Tensor, Tensor);

    fn steps(&self, epoch: u64) -> Vec<Vec<usize>> {
        let lengths: Vec<usize> = self.examples.iter().map(|example| example.tokens.len()).collect();
        training_batches(
            &lengths,
            self.text.batch_limits(self.cell.protocol.batch_size),
            self.cell.seed,
            epoch,
        )
    }

    fn batch(&mut self, examples: &[usize], _: Place) -> Result<Self::Batch> {
        let rows = examples.iter().map(|&row| &self.examples[row]);
        // Padding on the right: what comes before it never looks at it, so that no mask is needed.
        let batch = PaddedBatch::new(rows, 0, PaddingSide::Right);
        let columns = batch.columns;
        let is_predicted = |place: &usize| !place.is_multiple_of(columns) && batch.labels[*place] != MASKED;
        let behind = |place: usize| (place - place / columns - 1) as i64;
        let places: Vec<i64> = (0..batch.labels.len()).filter(is_predicted).map(behind).collect();
        let tokens = Tensor::f_from_slice(&batch.tokens)?.f_view([batch.rows as i64, columns as i64])?;
        let places = Tensor::f_from_slice(&places)?;
        Ok((tokens.f_to_device(self.device)?, places.f_to_device(self.device)?))
    }

    fn loss(&self, (tokens, places): &Self::Batch, _: Place) -> Result<Tensor> {
        Ok(loss(&*self.model, tokens, places)?)
    }

    fn reading(&self) -> Duration {
        Duration::ZERO // the rows are in memory, in tokens
    }
}

/// Mean loss of the tokens behind `places`. Scores are made for these alone: a vocabulary is wide.
fn loss(model: &dyn LanguageModel, tokens: &Tensor, places: &Tensor) -> Result<Tensor, tch::TchError> {
    let length = tokens.size()[1];
    let hidden = model.hidden(&model.embed(tokens), None, None).f_narrow(1, 0, length - 1)?;
    let hidden = hidden.f_flatten(0, 1)?.f_index_select(0, places)?;
    let next = tokens.f_narrow(1, 1, length - 1)?.f_flatten(0, 1)?.f_index_select(0, places)?;
    model.scores(&hidden).f_cross_entropy_loss(&next, None::<Tensor>, tch::Reduction::Mean, -100, 0.0)
}

impl<'a> Run<'a> {
    fn prepare(cell: &'a Cell, text: &'a TextProtocol, context: &mut Context) -> Result<Self> {
        let sets = context.texts(&cell.sets, &cell.data)?;
        let loaded = context.language(&cell.backbone)?;
        let method = cell.method()?;
        let device = context.device();
        let LoadedLanguageModel { architecture, layout, weights, .. } = &*loaded;
        let (trainables, attachment) = methods::prepare(&*method, layout, weights, 0, &[cell.seed], device)?;
        let model = architecture.build(&Scope::new(weights, &attachment))?;
        let (train, _) = splits(cell.stage);
        let rows = sets.first().map_or(&[][..], |set| set.rows(train));
        let tokenizer = &loaded.tokenizer;
        let (examples, truncation) =
            examples(rows, &text.examples, loaded.end, |text| tokenizer.encode(text))?;
        Ok(Self {
            task: Task { cell, text, model, examples, device },
            learner: Learner::new(trainables, cell.protocol.weight_decay)?,
            cell,
            text,
            method,
            loaded,
            attachment,
            sets,
            truncation,
            merge_difference: None,
            forgetting: None,
            evaluation: Duration::ZERO,
        })
    }

    /// Everything from the first batch to the last file.
    fn carry_out(
        &mut self,
        folder: &Path,
        session: &mut Session<'_>,
    ) -> Result<(State, Vec<Evaluation>, u64)> {
        let nothing_to_learn = self.learner.trainables.values().numel() == 0;
        let epochs = if nothing_to_learn { 0 } else { self.cell.protocol.epochs };
        let schedule = Linear {
            base: self.cell.learning_rate,
            warmup_steps: self.text.warmup_steps,
            steps: (0..epochs).map(|epoch| self.task.steps(epoch).len() as u64).sum(),
        };
        let state = self.learner.train(&mut self.task, epochs, &|step| schedule.rate(step), session)?;
        let evaluations = match state {
            State::Finished => self.evaluate(folder, session.stop)?,
            State::Diverged => Vec::new(),
        };
        let header = AdapterHeader {
            method: self.cell.method.clone(),
            options: self.method.options(),
            backbone: self.cell.backbone.clone(),
            base_checksum: self.loaded.checksum.clone(),
            classes: 0,
        };
        let path = folder.join(report::record::ADAPTER_FILE);
        let adapter_bytes = adapter_file::write(&path, &header, &self.learner.trainables)?;
        self.learner.publish_log(folder)?;
        Ok((state, evaluations, adapter_bytes))
    }

    fn evaluate(&mut self, folder: &Path, stop: &StopFlag) -> Result<Vec<Evaluation>> {
        let start = Instant::now();
        self.compare_merged()?;
        let (_, split) = splits(self.cell.stage);
        let sets = self.sets.clone();
        let mut evaluations = Vec::new();
        // Rows to choose by are shared by all sets: one reading is enough.
        let read = if split == Split::Val { &sets[..sets.len().min(1)] } else { &sets[..] };
        for set in read {
            let rows = set.rows(split);
            let answers = self.answer(rows, stop)?;
            self.write_answers(folder, set, rows, &answers)?;
            evaluations.push(self.scored(set, rows, &answers)?);
        }
        self.forgetting = self.measure_forgetting()?;
        self.evaluation += start.elapsed();
        Ok(evaluations)
    }

    /// The answer found for each row, and the text that it was found in.
    fn answer(&self, rows: &[Row], stop: &StopFlag) -> Result<Vec<Answer>> {
        let prompts: Vec<Vec<i64>> =
            rows.iter().map(|row| self.loaded.encode(&evaluation_prompt(row))).collect::<Result<_>>()?;
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let mut answers: Vec<Answer> = rows.iter().map(|_| Answer::default()).collect();
        for batch in evaluation_batches(&lengths, self.text.evaluation) {
            stop.check()?;
            match self.text.reading.decoding() {
                Some(decoding) => {
                    let limits =
                        Limits { ends: vec![i64::from(self.loaded.end)], new_tokens: self.text.new_tokens };
                    let some: Vec<Vec<i64>> = batch.iter().map(|&row| prompts[row].clone()).collect();
                    let some = Prompts::of_tokens(&*self.task.model, &some, self.task.device)?;
                    let texts = generate(&*self.task.model, &some, decoding, &limits)?;
                    for (&row, tokens) in batch.iter().zip(texts) {
                        answers[row] = Answer::in_text(&rows[row], self.loaded.decode(&tokens)?);
                    }
                }
                None => {
                    for row in batch {
                        answers[row] = self.likeliest(&rows[row], &prompts[row])?;
                    }
                }
            }
        }
        Ok(answers)
    }

    /// The option whose sentence is the likeliest behind the prompt.
    fn likeliest(&self, row: &Row, prompt: &[i64]) -> Result<Answer> {
        let options = row.options();
        let continued = options
            .iter()
            .map(|option| {
                let whole = self.loaded.encode(&(evaluation_prompt(row) + &continuation(option)))?;
                // A token may reach over the end of the prompt.
                let shared = whole.iter().zip(prompt).take_while(|(one, other)| one == other).count();
                Ok(Continuation { prompt: whole[..shared].to_vec(), text: whole[shared..].to_vec() })
            })
            .collect::<Result<Vec<_>>>()?;
        let sums = likelihoods(&*self.task.model, &continued, self.task.device)?;
        let found = best_option(&sums).map(|best| options[best].to_owned());
        Ok(Answer { text: String::new(), found })
    }

    fn scored(&self, set: &TextSet, rows: &[Row], answers: &[Answer]) -> Result<Evaluation> {
        let pairs = rows.iter().zip(answers);
        let score = Score::of(pairs.map(|(row, answer)| (answer.found.as_deref(), row.answer.as_str())));
        Ok(Evaluation {
            dataset: self.dataset(set, rows.len())?,
            accuracy: score.accuracy(),
            no_answer: (self.text.reading != Reading::Likelihood).then(|| score.no_answer_rate()),
            further: std::collections::BTreeMap::new(),
        })
    }

    fn dataset(&self, set: &TextSet, read: usize) -> Result<Dataset> {
        let entry = set.entry();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Dataset {
            name: set.name().to_owned(),
            group: serde_json::to_value(entry.group)?.as_str().unwrap_or_default().to_owned(),
            order: entry.order,
            classes: entry.classes,
            train: count(self.task.examples.len()),
            test: count(read),
            checksum: set.checksum().to_owned(),
        })
    }

    /// `<set>.predictions.parquet`: the place of the right answer and of the one found among those of the
    /// set's format, -1 for none; and `<set>.texts.jsonl`, what the model wrote.
    fn write_answers(&self, folder: &Path, set: &TextSet, rows: &[Row], answers: &[Answer]) -> Result<()> {
        let (mut labels, mut predicted) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let mut texts = String::new();
        for (row, answer) in rows.iter().zip(answers) {
            let place = |answer: &str| row.format()?.options().position(|option| option == answer);
            let number = |place: Option<usize>| place.map_or(-1, |place| place as i64);
            labels.push(number(place(&row.answer)));
            predicted.push(number(answer.found.as_deref().and_then(place)));
            texts += &serde_json::to_string(&answer.text)?;
            texts.push('\n');
        }
        let name = set.entry().name.as_str();
        predictions::write(&folder.join(format!("{name}.{}", predictions::FILE)), &labels, &predicted)?;
        if self.text.reading != Reading::Likelihood {
            write_atomically(&folder.join(format!("{name}.texts.jsonl")), texts.as_bytes())?;
        }
        Ok(())
    }

    /// Largest difference between the scores of the tuned and of the merged model on one row.
    fn compare_merged(&mut self) -> Result<()> {
        let Some(example) = self.task.examples.first() else { return Ok(()) };
        if self.method.unmergeable().is_some() {
            return Ok(());
        }
        let LoadedLanguageModel { architecture, layout, weights, .. } = &*self.loaded;
        let merged = merge(layout, weights, &self.attachment, &self.learner.trainables, 0)?;
        let plain = architecture.build(&Scope::new(&merged, &Attachment::default()))?;
        let tokens = Tensor::f_from_slice(&example.tokens.iter().map(|&t| i64::from(t)).collect::<Vec<_>>())?;
        let tokens = tokens.f_unsqueeze(0)?.f_to_device(self.task.device)?;
        let difference =
            no_grad(|| plain.forward(&tokens, None) - self.task.model.forward(&tokens, None)).abs().max();
        self.merge_difference = Some(f64::try_from(difference)?);
        Ok(())
    }

    fn measure_forgetting(&self) -> Result<Option<Forgetting>> {
        let mut tokens = self.loaded.encode(&self.loaded.neutral)?;
        tokens.truncate(NEUTRAL_TOKENS);
        if tokens.len() < 2 {
            return Ok(None);
        }
        let places: Vec<i64> = (0..tokens.len() as i64 - 1).collect();
        let device = self.task.device;
        let tokens = Tensor::f_from_slice(&tokens)?.f_unsqueeze(0)?.f_to_device(device)?;
        let places = Tensor::f_from_slice(&places)?.f_to_device(device)?;
        let mean = |model: &dyn LanguageModel| no_grad(|| loss(model, &tokens, &places));
        let LoadedLanguageModel { architecture, weights, .. } = &*self.loaded;
        let frozen = architecture.build(&Scope::new(weights, &Attachment::default()))?;
        Ok(Some(Forgetting {
            before: f64::try_from(mean(&*frozen)?.f_to_kind(Kind::Double)?)?,
            after: f64::try_from(mean(&*self.task.model)?.f_to_kind(Kind::Double)?)?,
        }))
    }

    fn into_outcome(self, state: State, evaluations: Vec<Evaluation>, adapter_bytes: u64) -> Result<Outcome> {
        let mean = |values: Vec<f64>| unweighted_average(&values);
        let mixture = Dataset {
            name: self.cell.set_label(),
            group: self.cell.suite.clone(),
            order: 0,
            classes: 0,
            train: u32::try_from(self.task.examples.len()).unwrap_or(u32::MAX),
            test: evaluations.iter().map(|evaluation| evaluation.dataset.test).sum(),
            checksum: self.cell.data_checksum.clone(),
        };
        let progress = self.learner.progress;
        Ok(Outcome {
            state,
            dataset: mixture,
            parameters: parameters(&self.loaded.layout, &self.learner.trainables),
            metrics: Metrics {
                accuracy: mean(evaluations.iter().map(|evaluation| evaluation.accuracy).collect()),
                train_loss: progress.losses.last().copied(),
                merge_difference: self.merge_difference,
                loss_history: progress.losses,
                steps: progress.steps,
                test_selected: None,
                no_answer: mean(evaluations.iter().filter_map(|evaluation| evaluation.no_answer).collect()),
                forgetting: self.forgetting,
                truncation: Some(record::Truncation {
                    rows: self.truncation.rows,
                    truncated: self.truncation.truncated,
                    answers_lost: self.truncation.answers_lost,
                }),
                // What is chosen by is read on one part that no set owns.
                evaluations: if splits(self.cell.stage).1 == Split::Val { Vec::new() } else { evaluations },
            },
            training: progress.training,
            evaluation: self.evaluation,
            reading: progress.reading,
            adapter_bytes,
        })
    }
}

/// What was found for a row.
#[derive(Debug, Clone, Default)]
struct Answer {
    text: String,
    found: Option<String>,
}

impl Answer {
    fn in_text(row: &Row, text: String) -> Self {
        let found = row.format().and_then(|format| format.extract(&text)).map(str::to_owned);
        Self { text, found }
    }
}
