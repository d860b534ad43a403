//! Evaluation of a language model: answers every prompt of every set and scores the answers by the set's own rule.

use std::path::Path;

use anyhow::{Result, bail};
use backbones::language::generate::{Continuation, Decoding, Limits, generate, likelihoods};
use data_loaders::text::{best_option, evaluation_batches};
use report::record::{Dataset, Evaluation, Forgetting, Pending};
use san_core::{AdapterSet, Error};
use tch::{Device, Kind, Tensor, no_grad};

use super::data::{Answer, EvalJudgement, EvalSet};
use super::objective::{Objective, Part, losses};
use super::{AnswerDecoding, language_model, mean};
use crate::io::files::write_atomically;
use crate::io::predictions;
use crate::models::LoadedLanguageModel;
use crate::models::reader::Reader;
use crate::tasks::{EvalScores, Tuned};
use crate::train::signals::StopFlag;

/// Maximum number of tokens of the text on which forgetting is measured.
const NEUTRAL_TOKENS: usize = 512;

/// What the evaluation of one run needs.
pub(super) struct Evaluator<'a> {
    objective: &'a Objective,
    tuned: &'a Tuned<'a>,
    loaded: &'a LoadedLanguageModel,
    fine_tuned: Reader,
    /// The equivalent plain model, if the protocol evaluates that and the method can be merged.
    merged: Option<Reader>,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(objective: &'a Objective, tuned: &'a Tuned<'a>) -> Result<Self> {
        let loaded = language_model(tuned.base)?;
        let fine_tuned = loaded.architecture.build(tuned.weights, tuned.adapters)?;
        let mut evaluator = Self { objective, tuned, loaded, fine_tuned, merged: None };
        if objective.protocol.evaluate_merged {
            evaluator.merged = evaluator.merge()?;
        }
        Ok(evaluator)
    }

    /// The model that answers.
    fn model(&self) -> &Reader {
        self.merged.as_ref().unwrap_or(&self.fine_tuned)
    }

    /// The equivalent plain model; `None` if the method cannot be merged.
    fn merge(&self) -> Result<Option<Reader>> {
        let Some(weights) = self.tuned.merged(0)? else { return Ok(None) };
        Ok(Some(self.loaded.architecture.build(&weights, &AdapterSet::default())?))
    }

    /// Evaluates the model on each set. Files are written only once all results are known: a model that turns out to
    /// have diverged leaves none.
    pub(super) fn evaluate(&self, folder: &Path, stop: &StopFlag) -> Result<EvalScores> {
        let merge_difference = self.merge_difference()?;
        let data = &self.objective.data;
        let sets = &data.eval_sets;
        let answers = sets.iter().map(|set| self.answer(&**set, stop)).collect::<Result<Vec<_>>>()?;
        let forgetting = self.forgetting()?;
        let (mut evaluations, mut pending) = (Vec::with_capacity(sets.len()), Vec::new());
        for (set, answers) in sets.iter().zip(&answers) {
            let judged = set.judge(answers);
            write_answers(folder, &**set, &judged, answers)?;
            let submitted = submit(folder, &**set, answers)?;
            let Some(accuracy) = judged.score else {
                pending.extend(submitted);
                continue;
            };
            let generated = self.objective.protocol.decoding != AnswerDecoding::Likelihood;
            evaluations.push(Evaluation {
                dataset: Dataset { train: u32::try_from(self.objective.rows())?, ..set.dataset().clone() },
                accuracy,
                metric: set.metric().into(),
                no_answer: generated.then_some(judged.no_answer),
                further: judged.further,
            });
        }
        if evaluations.is_empty() {
            bail!("all sets are scored by a server: add one with `answers: local`");
        }
        Ok(EvalScores {
            score: mean(evaluations.iter().map(|evaluation| evaluation.accuracy)),
            metric: metric_of(&evaluations),
            evaluated: evaluations.iter().map(|evaluation| evaluation.dataset.test).sum(),
            merge_difference,
            no_answer: mean(evaluations.iter().filter_map(|evaluation| evaluation.no_answer)),
            forgetting,
            evaluations,
            pending,
        })
    }

    /// The model's answer to each prompt.
    fn answer(&self, set: &dyn EvalSet, stop: &StopFlag) -> Result<Vec<Answer>> {
        match self.objective.protocol.decoding.generation() {
            Some(decoding) => self.generate(set, decoding, stop),
            None => self.choose(set, stop),
        }
    }

    /// A generated answer to each prompt.
    fn generate(&self, set: &dyn EvalSet, decoding: Decoding, stop: &StopFlag) -> Result<Vec<Answer>> {
        let (Objective { protocol, device, .. }, model) = (self.objective, self.model());
        let prompts = set.prompts();
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let mut answers = vec![Answer::Option(None); prompts.len()];
        let LoadedLanguageModel { end, other_end_tokens, .. } = self.loaded;
        let end_tokens = std::iter::once(i64::from(*end)).chain(other_end_tokens.iter().copied()).collect();
        let limits = Limits { end_tokens, max_new_tokens: set.max_new_tokens(protocol.max_new_tokens) };
        let batches = evaluation_batches(&lengths, protocol.evaluation);
        if set.images().reads_ahead() {
            set.images().expect(&batches)?;
        }
        for batch in batches {
            stop.check()?;
            let some: Vec<Vec<i64>> = batch.iter().map(|&prompt| prompts[prompt].clone()).collect();
            let images = set.images().features(&batch)?;
            let some = model.prompts(&some, images.as_ref(), *device)?;
            let texts = generate(model.language(), &some, decoding, &limits)?;
            for (&prompt, tokens) in batch.iter().zip(texts) {
                answers[prompt] = Answer::Text(self.loaded.decode(&tokens)?);
            }
        }
        Ok(answers)
    }

    /// The option of each prompt that is most likely as its continuation. Options of all prompts share batches.
    fn choose(&self, set: &dyn EvalSet, stop: &StopFlag) -> Result<Vec<Answer>> {
        let (mut continuations, mut options) = (Vec::new(), Vec::new());
        for prompt in 0..set.prompts().len() {
            let (of_prompt, continued): (Vec<_>, Vec<_>) = set.options(prompt)?.into_iter().unzip();
            options.push(of_prompt);
            continuations.extend(continued);
        }
        let lengths: Vec<usize> = continuations.iter().map(|one| one.prompt.len() + one.text.len()).collect();
        let mut sums = vec![0.0; lengths.len()];
        for batch in evaluation_batches(&lengths, self.objective.protocol.evaluation) {
            stop.check()?;
            let some: Vec<&Continuation> = batch.iter().map(|&place| &continuations[place]).collect();
            let found = likelihoods(self.model().language(), &some, self.objective.device)?;
            batch.into_iter().zip(found).for_each(|(place, sum)| sums[place] = sum);
        }
        let mut sums = sums.into_iter();
        let best = |of_prompt: Vec<String>| {
            let likelihoods: Vec<f64> = sums.by_ref().take(of_prompt.len()).collect();
            Answer::Option(best_option(&likelihoods).map(|best| of_prompt[best].clone()))
        };
        Ok(options.into_iter().map(best).collect())
    }

    /// Largest difference between the logits of the fine-tuned and of the merged model on one example.
    fn merge_difference(&self) -> Result<Option<f64>> {
        let Objective { data, device, .. } = self.objective;
        let Some(example) = data.examples.first() else { return Ok(None) };
        let made = if self.merged.is_none() { self.merge()? } else { None };
        let Some(merged) = self.merged.as_ref().or(made.as_ref()) else { return Ok(None) };
        let tokens = Tensor::f_from_slice(&example.tokens.iter().map(|&t| i64::from(t)).collect::<Vec<_>>())?;
        let tokens = tokens.f_unsqueeze(0)?.f_to_device(*device)?;
        let images = data.images.features(&[0])?;
        let logits = |model: &Reader| -> Result<Tensor> {
            let embedded = model.embed(&tokens, images.as_ref())?;
            Ok(model.language().logits(&model.language().hidden(&embedded, None, None)))
        };
        let difference =
            no_grad(|| -> Result<Tensor> { Ok(logits(merged)? - logits(&self.fine_tuned)?) })?.abs().max();
        Ok(Some(finite(f64::try_from(difference)?, "a logit")?))
    }

    /// The mean loss on a neutral text before and after fine-tuning.
    fn forgetting(&self) -> Result<Option<Forgetting>> {
        let mut tokens = self.loaded.encode(&self.loaded.neutral)?;
        tokens.truncate(NEUTRAL_TOKENS);
        if tokens.len() < 2 {
            return Ok(None);
        }
        let places: Vec<i64> = (0..tokens.len() as i64 - 1).collect();
        let mean = |model: &Reader, device: Device| -> Result<f64> {
            let text = Part {
                tokens: Tensor::f_from_slice(&tokens)?.f_unsqueeze(0)?.f_to_device(device)?,
                places: Tensor::f_from_slice(&places)?.f_to_device(device)?,
                predicted: vec![places.len() as i64],
                images: None,
                texts: None,
                extents: None,
            };
            let loss = no_grad(|| losses(model, &text))?.f_get(0)?.f_to_kind(Kind::Double)?;
            Ok(finite(f64::try_from(loss)?, "the loss on the neutral text")?)
        };
        // The frozen weights are in main memory if all of them are trained, since the device has no room for them.
        let weights = self.tuned.weights;
        let device = self.objective.device;
        let kept_on = weights.iter().next().map_or(device, |(_, tensor)| tensor.device());
        let frozen = self.loaded.architecture.build(weights, &AdapterSet::default())?;
        Ok(Some(Forgetting { before: mean(&frozen, kept_on)?, after: mean(self.model(), device)? }))
    }
}

/// The metric of a mean over sets: the sets' metric, if they share one.
fn metric_of(evaluations: &[Evaluation]) -> String {
    let first = &evaluations[0].metric;
    if evaluations.iter().all(|evaluation| evaluation.metric == *first) {
        first.clone()
    } else {
        "mean of each set's own score".into()
    }
}

fn finite(number: f64, what: &'static str) -> Result<f64, Error> {
    if number.is_finite() { Ok(number) } else { Err(Error::NotFinite { what }) }
}

/// Writes the submission file for a set with a server, also where its answers are public: MMBench's local score is not
/// the published one, which rotates the options.
fn submit(folder: &Path, set: &dyn EvalSet, answers: &[Answer]) -> Result<Option<Pending>> {
    let Some((name, file)) = set.submission(answers)? else { return Ok(None) };
    write_atomically(&folder.join(name), &file)?;
    let details = Some(set.dataset().clone());
    Ok(Some(Pending { dataset: set.dataset().name.clone(), file: name.into(), details }))
}

/// Writes `<set>.predictions.parquet`, the labels of the correct and the given answers, and `<set>.texts.jsonl`, the
/// generated texts.
fn write_answers(folder: &Path, set: &dyn EvalSet, judged: &EvalJudgement, answers: &[Answer]) -> Result<()> {
    let name = set.file_stem();
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
