//! Cells of language: a model tuned once on what all sets of a suite teach, and read on each of them. What it is taught
//! and asked, and how its answers are judged, is its `material`.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use backbones::generate::{Limits, generate, likelihoods};
use data_loaders::Split;
use data_loaders::text::{best_option, evaluation_batches, unweighted_average};
use report::record::{self, Dataset, Evaluation, Forgetting, Metrics, Pending, State};
use san_core::Attachment;
use san_core::adapters::file::{self as adapter_file, AdapterHeader};
use san_core::adapters::merge::merge;
use san_core::methods::{self, Method};
use tch::{Kind, Tensor, no_grad};

use crate::config::experiment::{Input, Reading};
use crate::config::language::LanguageProtocol;
use crate::io::files::write_atomically;
use crate::io::predictions;
use crate::models::reader::Reader;
use crate::plan::cell::Cell;
use crate::resources::context::{Context, LoadedLanguageModel};
use crate::tasks::language_objective::{Part, Task, loss};
use crate::tasks::material::{Answer, Exam, Judged, Material};
use crate::tasks::{Outcome, parameters, questions, require_planned_weights, rows, splits};
use crate::train::signals::StopFlag;
use crate::train::trainer::{Learner, Objective as _, Session};

/// Most tokens that are read of the text on which forgetting is measured.
const NEUTRAL_TOKENS: usize = 512;

/// See [`crate::tasks::execute`].
pub(super) fn execute(
    cell: &Cell,
    context: &mut Context,
    folder: &Path,
    session: &mut Session<'_>,
) -> Result<Outcome> {
    let mut run = session
        .stop
        .interruptible(|| Run::prepare(cell, cell.method()?, &cell.modules_to_save(), context))?;
    match run.carry_out(folder, session) {
        Ok((state, evaluations, adapter_bytes)) => Ok(run.into_outcome(state, evaluations, adapter_bytes)),
        Err(error) => Err(run.keep(error, session)),
    }
}

/// A cell in memory.
pub(super) struct Run<'a> {
    cell: &'a Cell,
    method: Box<dyn Method>,
    loaded: Rc<LoadedLanguageModel>,
    attachment: Attachment,
    pub(super) learner: Learner,
    task: Task<'a>,
    merge_difference: Option<f64>,
    forgetting: Option<Forgetting>,
    pending: Vec<Pending>,
    evaluation: Duration,
}

impl<'a> Run<'a> {
    pub(super) fn prepare(
        cell: &'a Cell,
        method: Box<dyn Method>,
        modules_to_save: &[String],
        context: &mut Context,
    ) -> Result<Self> {
        let loaded = context.language(&cell.backbone, &cell.protocol.input)?;
        require_planned_weights(cell, &loaded.checksum)?;
        let device = context.device();
        let LoadedLanguageModel { architecture, layout, weights, .. } = &*loaded;
        let (trainables, attachment) =
            methods::prepare(&*method, modules_to_save, layout, weights, 0, &[cell.seed], device)?;
        let model = architecture.build(weights, &attachment)?;
        let (protocol, material): (LanguageProtocol, Material) = match &cell.protocol.input {
            Input::Text(text) => (text.into(), rows::material(cell, text, &loaded, context)?),
            Input::Questions(asked) => {
                (asked.into(), questions::material(cell, asked, &loaded, &model, context)?)
            }
            Input::Image(_) => bail!("a cell of images is no cell of language"),
        };
        let mut learner = Learner::new(trainables, cell.protocol.weight_decay)?;
        if let Some(projector) = cell.protocol.projector() {
            learner = learner.modules_to_save_at(projector.learning_rate / cell.learning_rate);
        }
        material.fits(&cell.backbone, architecture.context(), protocol.new_tokens)?;
        Ok(Self {
            task: Task { cell, protocol, model, material, device },
            learner,
            cell,
            method,
            loaded,
            attachment,
            merge_difference: None,
            forgetting: None,
            pending: Vec::new(),
            evaluation: Duration::ZERO,
        })
    }

    /// From the first batch, or the checkpoint, to the last.
    pub(super) fn train(&mut self, session: &mut Session<'_>) -> Result<State> {
        self.learner.restore(session.checkpoint)?;
        let nothing_to_learn = self.learner.trainables.values().numel() == 0;
        let epochs = if nothing_to_learn { 0 } else { self.cell.protocol.epochs };
        let steps = (0..epochs).map(|epoch| self.task.steps(epoch).len() as u64).sum();
        let rate = self.task.protocol.schedule(self.cell.learning_rate, steps);
        self.learner.train(&mut self.task, epochs, &rate, session)
    }

    /// After an error: see [`Learner::keep`].
    pub(super) fn keep(&mut self, error: anyhow::Error, session: &Session<'_>) -> anyhow::Error {
        match self.learner.keep(&error, &self.task, session.checkpoint) {
            Ok(()) => error,
            Err(worse) => worse,
        }
    }

    /// Everything from the first batch to the last file.
    fn carry_out(
        &mut self,
        folder: &Path,
        session: &mut Session<'_>,
    ) -> Result<(State, Vec<Evaluation>, u64)> {
        let mut state = self.train(session)?;
        let mut evaluations = Vec::new();
        if state == State::Finished {
            match self.evaluate(folder, session.stop) {
                Ok(found) => evaluations = found,
                Err(error) if is_divergence(&error) => state = State::Diverged,
                Err(error) => return Err(error),
            }
        }
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

    /// What the model gives on each set. Files are written once all of it is known: a model that turns out to have
    /// diverged leaves none.
    fn evaluate(&mut self, folder: &Path, stop: &StopFlag) -> Result<Vec<Evaluation>> {
        let start = Instant::now();
        self.compare_merged()?;
        let exams = &self.task.material.exams;
        let answers = exams.iter().map(|exam| self.answer(&**exam, stop)).collect::<Result<Vec<_>>>()?;
        let forgetting = self.measure_forgetting()?;
        let mut evaluations = Vec::with_capacity(exams.len());
        for (exam, answers) in exams.iter().zip(&answers) {
            let judged = exam.judge(answers);
            write_answers(folder, &**exam, &judged, answers)?;
            let Some(accuracy) = judged.accuracy else {
                self.pending.extend(submit(folder, &**exam, answers)?);
                continue;
            };
            let train = u32::try_from(self.task.material.truncation.rows).unwrap_or(u32::MAX);
            evaluations.push(Evaluation {
                dataset: Dataset { train, ..exam.dataset().clone() },
                accuracy,
                no_answer: (self.task.protocol.reading != Reading::Likelihood).then_some(judged.no_answer),
                further: judged.further,
            });
        }
        if evaluations.is_empty() {
            bail!("servers know the answers of all sets: name one with `answers: local`");
        }
        self.forgetting = forgetting;
        self.evaluation += start.elapsed();
        Ok(evaluations)
    }

    /// The answer found to each prompt.
    fn answer(&self, exam: &dyn Exam, stop: &StopFlag) -> Result<Vec<Answer>> {
        let Task { protocol, model, device, .. } = &self.task;
        let prompts = exam.prompts();
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let mut answers = vec![Answer::Option(None); prompts.len()];
        let ends = vec![i64::from(self.loaded.end)];
        let limits = Limits { ends, new_tokens: exam.new_tokens(protocol.new_tokens) };
        for batch in evaluation_batches(&lengths, protocol.evaluation) {
            stop.check()?;
            let Some(decoding) = protocol.reading.decoding() else {
                for prompt in batch {
                    answers[prompt] = self.likeliest(exam, prompt)?;
                }
                continue;
            };
            let some: Vec<Vec<i64>> = batch.iter().map(|&prompt| prompts[prompt].clone()).collect();
            let seen = exam.pictures().seen(&batch)?;
            let some = model.prompts(&some, seen.as_ref(), *device)?;
            let texts = generate(model.language(), &some, decoding, &limits)?;
            for (&prompt, tokens) in batch.iter().zip(texts) {
                answers[prompt] = Answer::Text(self.loaded.decode(&tokens)?);
            }
        }
        Ok(answers)
    }

    /// The option whose sentence is the likeliest behind the prompt.
    fn likeliest(&self, exam: &dyn Exam, prompt: usize) -> Result<Answer> {
        let (options, continued): (Vec<_>, Vec<_>) = exam.options(prompt)?.into_iter().unzip();
        let sums = likelihoods(self.task.model.language(), &continued, self.task.device)?;
        Ok(Answer::Option(best_option(&sums).map(|best| options[best].clone())))
    }

    /// Largest difference between the scores of the tuned and of the merged model on one example.
    fn compare_merged(&mut self) -> Result<()> {
        let Task { model, material, device, .. } = &self.task;
        let Some(example) = material.examples.first() else { return Ok(()) };
        if self.method.unmergeable().is_some() {
            return Ok(());
        }
        let LoadedLanguageModel { architecture, layout, weights, .. } = &*self.loaded;
        let merged = merge(layout, weights, &self.attachment, &self.learner.trainables, 0)?;
        let plain = architecture.build(&merged, &Attachment::default())?;
        let tokens = Tensor::f_from_slice(&example.tokens.iter().map(|&t| i64::from(t)).collect::<Vec<_>>())?;
        let tokens = tokens.f_unsqueeze(0)?.f_to_device(*device)?;
        let seen = material.pictures.seen(&[0])?;
        let scores = |model: &Reader| -> Result<Tensor> {
            let embedded = model.embed(&tokens, seen.as_ref())?;
            Ok(model.language().scores(&model.language().hidden(&embedded, None, None)))
        };
        let difference = no_grad(|| -> Result<Tensor> { Ok(scores(&plain)? - scores(model)?) })?.abs().max();
        self.merge_difference = Some(finite(f64::try_from(difference)?, "a logit")?);
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
        let text = Part {
            tokens: Tensor::f_from_slice(&tokens)?.f_unsqueeze(0)?.f_to_device(device)?,
            places: Tensor::f_from_slice(&places)?.f_to_device(device)?,
            seen: None,
            texts: None,
        };
        let mean = |model: &Reader| -> Result<f64> {
            let loss = no_grad(|| loss(model, &text))?.f_to_kind(Kind::Double)?;
            Ok(finite(f64::try_from(loss)?, "the loss on the neutral text")?)
        };
        let LoadedLanguageModel { architecture, weights, .. } = &*self.loaded;
        let frozen = architecture.build(weights, &Attachment::default())?;
        Ok(Some(Forgetting { before: mean(&frozen)?, after: mean(&self.task.model)? }))
    }

    fn into_outcome(self, state: State, evaluations: Vec<Evaluation>, adapter_bytes: u64) -> Outcome {
        let mean = |values: Vec<f64>| unweighted_average(&values);
        let Material { truncation, .. } = self.task.material;
        let mixture = Dataset {
            name: self.cell.set_label(),
            group: self.cell.suite.clone(),
            order: 0,
            classes: 0,
            train: u32::try_from(truncation.rows).unwrap_or(u32::MAX),
            test: evaluations.iter().map(|evaluation| evaluation.dataset.test).sum(),
            checksum: self.cell.data_checksum.clone(),
        };
        let progress = self.learner.progress;
        Outcome {
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
                    rows: truncation.rows,
                    truncated: truncation.truncated,
                    answers_lost: truncation.answers_lost,
                }),
                // What is chosen by is the mean alone.
                evaluations: if splits(self.cell.stage).1 == Split::Val { Vec::new() } else { evaluations },
                pending: self.pending,
            },
            training: progress.training,
            evaluation: self.evaluation,
            reading: progress.reading,
            adapter_bytes,
        }
    }
}

/// Whether a model computed numbers that are not finite, which ends its run as diverged and is no failure.
fn is_divergence(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(san_core::Error::NotFinite { .. }))
}

fn finite(number: f64, what: &'static str) -> Result<f64, san_core::Error> {
    if number.is_finite() { Ok(number) } else { Err(san_core::Error::NotFinite { what }) }
}

/// The file for the server of a set whose answers are not public; its score is pending.
fn submit(folder: &Path, exam: &dyn Exam, answers: &[Answer]) -> Result<Option<Pending>> {
    let Some((name, file)) = exam.submission(answers)? else { return Ok(None) };
    write_atomically(&folder.join(name), &file)?;
    Ok(Some(Pending { dataset: exam.dataset().name.clone(), file: name.into() }))
}

/// `<set>.predictions.parquet`: the numbers of the right answer and of the one found; and `<set>.texts.jsonl`, what the
/// model wrote.
fn write_answers(folder: &Path, exam: &dyn Exam, judged: &Judged, answers: &[Answer]) -> Result<()> {
    let name = exam.file_stem();
    let path = folder.join(format!("{name}.{}", predictions::FILE));
    predictions::write(&path, &judged.labels, &judged.predicted)?;
    let mut texts = String::new();
    for answer in answers {
        let Answer::Text(text) = answer else { return Ok(()) };
        texts += &serde_json::to_string(text)?;
        texts.push('\n');
    }
    write_atomically(&folder.join(format!("{name}.texts.jsonl")), texts.as_bytes())?;
    Ok(())
}
