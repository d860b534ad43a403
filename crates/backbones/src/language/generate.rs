//! Text generation: greedy decoding, beam search, and log-likelihoods of given continuations.
//!
//! Prompts in a batch are left-padded, so that generation continues at the same column for all; positions skip
//! padding and padding is masked, so a prompt's answer does not depend on the other prompts. Beam search
//! follows transformers' `generate` (length penalty 1, no early stopping).

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use san_core::Error::NotFinite;

use crate::Error;
use crate::language::{Cache, LanguageModel};

/// Decoding strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decoding {
    /// Greedy decoding.
    Greedy,
    /// Beam search with this many beams.
    Beams(i64),
}

/// When generation stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// End tokens; not part of the answer.
    pub end_tokens: Vec<i64>,
    /// Maximum number of new tokens.
    pub max_new_tokens: i64,
}

/// Embedded prompts, the input of the first block.
#[derive(Debug)]
pub struct Prompts {
    /// `[prompts, length, channels]`.
    pub embedded: Tensor,
    /// `[prompts, length]`, false at padding, which is on the left.
    pub valid: Tensor,
}

impl Prompts {
    /// Embeds token ids.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn from_tokens(
        model: &dyn LanguageModel,
        prompts: &[Vec<i64>],
        device: Device,
    ) -> Result<Self, Error> {
        let length = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let (mut tokens, mut valid) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let padding = length - prompt.len();
            tokens.extend(std::iter::repeat_n(0, padding).chain(prompt.iter().copied()));
            valid.extend((0..length).map(|column| column >= padding));
        }
        let shape = [prompts.len() as i64, length as i64];
        let tokens = Tensor::f_from_slice(&tokens)?.f_view(shape)?.f_to_device(device)?;
        let valid = Tensor::f_from_slice(&valid)?.f_view(shape)?.f_to_device(device)?;
        Ok(Self { embedded: no_grad(|| model.embed(&tokens)), valid })
    }
}

/// The answer to each prompt, without the end token.
///
/// # Errors
/// [`san_core::Error::NotFinite`] if a logit is not finite; errors of libtorch.
pub fn generate(
    model: &dyn LanguageModel,
    prompts: &Prompts,
    decoding: Decoding,
    limits: &Limits,
) -> Result<Vec<Vec<i64>>, Error> {
    let _guard = tch::no_grad_guard();
    let mut state = DecodingState::new(model, prompts, limits)?;
    let answers = match decoding {
        Decoding::Greedy => greedy(&mut state, limits)?,
        Decoding::Beams(beams) => beam_search(&mut state, beams.max(1), limits)?,
    };
    if state.finite.f_int64_value(&[])? == 0 {
        return Err(NotFinite { what: "a logit" }.into());
    }
    Ok(answers)
}

/// A model that has processed the prompts and the tokens chosen so far.
struct DecodingState<'a> {
    model: &'a dyn LanguageModel,
    cache: Cache,
    valid: Tensor,
    /// Whether any prompt has padding; otherwise the built-in causal mask suffices and is faster.
    padded: bool,
    /// Logits `[rows, vocabulary]` of the next token.
    logits: Tensor,
    /// Whether all logits so far were finite; kept on the device and read once, at the end.
    finite: Tensor,
}

impl<'a> DecodingState<'a> {
    fn new(model: &'a dyn LanguageModel, prompts: &Prompts, limits: &Limits) -> Result<Self, Error> {
        let length = prompts.valid.size()[1];
        let mut cache = Cache::new(length + limits.max_new_tokens);
        let padded = i64::try_from(prompts.valid.f_logical_not()?.f_any()?)? != 0;
        let valid = padded.then_some(&prompts.valid);
        let hidden = model.hidden(&prompts.embedded, valid, Some(&mut cache));
        let logits = model.logits(&hidden.narrow(1, length - 1, 1)).squeeze_dim(1);
        let finite = logits.f_isfinite()?.f_all()?;
        Ok(Self { model, cache, valid: prompts.valid.shallow_clone(), padded, logits, finite })
    }

    fn rows(&self) -> i64 {
        self.valid.size()[0]
    }

    /// Processes one more token of each row.
    fn append(&mut self, tokens: &[i64]) -> Result<(), Error> {
        let device = self.valid.device();
        let tokens = Tensor::f_from_slice(tokens)?.f_to_device(device)?.f_unsqueeze(1)?;
        self.valid = Tensor::f_cat(&[&self.valid, &tokens.f_ones_like()?.f_to_kind(Kind::Bool)?], 1)?;
        let embedded = self.model.embed(&tokens);
        let valid = self.padded.then_some(&self.valid);
        let hidden = self.model.hidden(&embedded, valid, Some(&mut self.cache));
        self.logits = self.model.logits(&hidden).f_squeeze_dim(1)?;
        self.finite = self.finite.f_logical_and(&self.logits.f_isfinite()?.f_all()?)?;
        Ok(())
    }

    /// Keeps these rows; a row may be repeated.
    fn select(&mut self, rows: &[i64]) -> Result<(), Error> {
        let rows = Tensor::f_from_slice(rows)?.f_to_device(self.valid.device())?;
        self.cache.select(&rows);
        self.valid = self.valid.f_index_select(0, &rows)?;
        self.logits = self.logits.f_index_select(0, &rows)?;
        Ok(())
    }
}

fn greedy(state: &mut DecodingState<'_>, limits: &Limits) -> Result<Vec<Vec<i64>>, Error> {
    let mut answers: Vec<Vec<i64>> = (0..state.rows()).map(|_| Vec::new()).collect();
    // The prompts still being answered, in the order of the state's rows.
    let mut open: Vec<usize> = (0..answers.len()).collect();
    for step in 0..limits.max_new_tokens {
        let chosen = Vec::<i64>::try_from(state.logits.f_argmax(-1, false)?.f_to_device(Device::Cpu)?)?;
        let active: Vec<usize> =
            (0..open.len()).filter(|row| !limits.end_tokens.contains(&chosen[*row])).collect();
        for &row in &active {
            answers[open[row]].push(chosen[row]);
        }
        if active.is_empty() || step + 1 == limits.max_new_tokens {
            break;
        }
        if active.len() < open.len() {
            state.select(&active.iter().map(|&row| row as i64).collect::<Vec<_>>())?;
        }
        open = active.iter().map(|&row| open[row]).collect();
        state.append(&active.iter().map(|&row| chosen[row]).collect::<Vec<_>>())?;
    }
    Ok(answers)
}

/// A hypothesis in progress or finished.
#[derive(Debug, Clone)]
struct Hypothesis {
    tokens: Vec<i64>,
    /// Sum of its tokens' log-probabilities.
    likelihood: f64,
}

/// The hypotheses of one prompt.
#[derive(Debug)]
struct Beam {
    hypotheses: Vec<Hypothesis>,
    /// Finished hypotheses by mean log-probability (the first field), best first, at most one per beam.
    finished: Vec<(f64, Vec<i64>)>,
    done: bool,
}

impl Beam {
    fn finish(&mut self, mean: f64, tokens: Vec<i64>, beams: usize) {
        let rank = self.finished.iter().take_while(|(other, _)| *other >= mean).count();
        self.finished.insert(rank, (mean, tokens));
        self.finished.truncate(beams);
    }
}

fn beam_search(state: &mut DecodingState<'_>, beams: i64, limits: &Limits) -> Result<Vec<Vec<i64>>, Error> {
    let (prompts, width) = (state.rows(), to_index(beams));
    state.select(&(0..prompts * beams).map(|row| row / beams).collect::<Vec<_>>())?;
    // Initially all hypotheses of a prompt are identical, so only the first may be extended.
    let start = |rank| Hypothesis { tokens: Vec::new(), likelihood: if rank == 0 { 0.0 } else { -1e9 } };
    let beam = || Beam { hypotheses: (0..width).map(start).collect(), finished: Vec::new(), done: false };
    let mut all: Vec<Beam> = (0..prompts).map(|_| beam()).collect();
    for step in 1..=limits.max_new_tokens {
        let (mut rows, mut tokens) = (Vec::new(), Vec::new());
        let candidates = candidates(state, &all, beams, limits.end_tokens.len())?;
        for ((beam, candidates), prompt) in all.iter_mut().zip(candidates).zip(0..) {
            let chosen = extend(beam, candidates, width, step, limits);
            for (row, token) in chosen {
                rows.push(prompt * beams + row as i64);
                tokens.push(token);
            }
        }
        if all.iter().all(|beam| beam.done) || step == limits.max_new_tokens {
            break;
        }
        state.select(&rows)?;
        state.append(&tokens)?;
    }
    Ok(all.into_iter().map(|beam| best(beam, width)).collect())
}

/// A hypothesis, its next token and their joint log-probability.
type Candidate = (usize, i64, f64);

/// Each prompt's most likely one-token extensions: for each hypothesis as many as there are end tokens and one more (at
/// least two, as in transformers), so that enough of them continue.
fn candidates(
    state: &DecodingState<'_>,
    all: &[Beam],
    beams: i64,
    end_tokens: usize,
) -> Result<Vec<Vec<Candidate>>, Error> {
    let vocabulary = state.logits.size()[1];
    let count = (beams * i64::try_from(end_tokens.max(1) + 1).unwrap_or(vocabulary)).min(beams * vocabulary);
    let likelihoods: Vec<f64> =
        all.iter().flat_map(|beam| beam.hypotheses.iter().map(|hypothesis| hypothesis.likelihood)).collect();
    let before = Tensor::f_from_slice(&likelihoods)?.f_to_device(state.logits.device())?.f_unsqueeze(1)?;
    let after = state.logits.f_log_softmax(-1, Kind::Float)?.f_to_kind(Kind::Double)? + before;
    let (best, indices) = after.f_view([-1, beams * vocabulary])?.f_topk(count, 1, true, true)?;
    let best = Vec::<f64>::try_from(best.f_flatten(0, -1)?.f_to_device(Device::Cpu)?)?;
    let indices = Vec::<i64>::try_from(indices.f_flatten(0, -1)?.f_to_device(Device::Cpu)?)?;
    let candidate =
        |(&likelihood, &index): (&f64, &i64)| (to_index(index / vocabulary), index % vocabulary, likelihood);
    let candidates: Vec<Candidate> = best.iter().zip(&indices).map(candidate).collect();
    Ok(candidates.chunks(to_index(count)).map(<[Candidate]>::to_vec).collect())
}

/// Finishes hypotheses at end tokens and keeps the best of the rest; returns each kept one's origin and new
/// token.
#[allow(clippy::cast_precision_loss)]
fn extend(
    beam: &mut Beam,
    candidates: Vec<Candidate>,
    width: usize,
    step: i64,
    limits: &Limits,
) -> Vec<(usize, i64)> {
    if beam.done {
        return vec![(0, 0); width];
    }
    let length = step as f64;
    let (mut hypotheses, mut chosen) = (Vec::new(), Vec::new());
    for (rank, (text, token, likelihood)) in candidates.into_iter().enumerate() {
        let mut tokens = beam.hypotheses[text].tokens.clone();
        if limits.end_tokens.contains(&token) {
            if rank < width {
                beam.finish(likelihood / length, tokens, width);
            }
        } else if hypotheses.len() < width {
            tokens.push(token);
            hypotheses.push(Hypothesis { tokens, likelihood });
            chosen.push((text, token));
        }
    }
    // As in transformers: no hypothesis in progress has a better mean than the worst finished one.
    let best = hypotheses.first().map_or(f64::NEG_INFINITY, |hypothesis| hypothesis.likelihood);
    beam.hypotheses = hypotheses;
    let worst = beam.finished.last().map_or(f64::NEG_INFINITY, |(mean, _)| *mean);
    beam.done = beam.finished.len() == width && worst >= best / length;
    chosen.resize(width, (0, 0));
    chosen
}

#[allow(clippy::cast_precision_loss)]
fn best(mut beam: Beam, width: usize) -> Vec<i64> {
    if !beam.done {
        for text in std::mem::take(&mut beam.hypotheses) {
            beam.finish(text.likelihood / text.tokens.len().max(1) as f64, text.tokens, width);
        }
    }
    match beam.finished.into_iter().next() {
        Some((_, tokens)) => tokens,
        None => unreachable!("a beam has at least one hypothesis"),
    }
}

/// A size or an index from libtorch.
fn to_index(value: i64) -> usize {
    usize::try_from(value).unwrap_or_else(|_| unreachable!("sizes and indices are not negative"))
}

/// A prompt and a possible continuation.
#[derive(Debug, Clone)]
pub struct Continuation {
    /// The given tokens.
    pub prompt: Vec<i64>,
    /// The tokens to score.
    pub text: Vec<i64>,
}

/// The log-probability of each continuation given its prompt, summed over its tokens.
///
/// # Errors
/// [`san_core::Error::NotFinite`] if a sum is not finite; errors of libtorch.
pub fn likelihoods(
    model: &dyn LanguageModel,
    continuations: &[impl Borrow<Continuation>],
    device: Device,
) -> Result<Vec<f64>, Error> {
    let _guard = tch::no_grad_guard();
    let all = || continuations.iter().map(Borrow::borrow);
    let whole: Vec<Vec<i64>> = all().map(|one| [&one.prompt[..], &one.text[..]].concat()).collect();
    let length = whole.iter().map(Vec::len).max().unwrap_or(0);
    // Right padding: earlier tokens never attend to it.
    let tokens: Vec<i64> = whole
        .iter()
        .flat_map(|tokens| tokens.iter().copied().chain(std::iter::repeat_n(0, length - tokens.len())))
        .collect();
    // Positions of the tokens that are scored, among those of all rows; the first token of a row has no prediction.
    let scored = |one: &Continuation| if one.prompt.is_empty() { 0 } else { one.text.len() };
    let places: Vec<i64> = (0..)
        .zip(all())
        .flat_map(|(row, one)| (0..scored(one)).map(move |token| row * length + one.prompt.len() + token))
        .map(|place| place as i64)
        .collect();
    if places.is_empty() {
        return Ok(vec![0.0; whole.len()]);
    }
    let tokens = Tensor::f_from_slice(&tokens)?.f_view([whole.len() as i64, -1])?.f_to_device(device)?;
    let places = Tensor::f_from_slice(&places)?.f_to_device(device)?;
    let hidden = model.hidden(&model.embed(&tokens), None, None);
    let predicting = hidden.f_flatten(0, 1)?.f_index_select(0, &(&places - 1))?;
    let logits = model.logits(&predicting.f_unsqueeze(0)?).f_squeeze_dim(0)?;
    let targets = tokens.f_flatten(0, -1)?.f_index_select(0, &places)?.f_unsqueeze(1)?;
    let log_probabilities = logits.f_log_softmax(-1, Kind::Float)?.f_gather(1, &targets, false)?;
    let log_probabilities: Vec<f64> =
        Vec::try_from(log_probabilities.f_squeeze_dim(1)?.f_to_kind(Kind::Double)?)?;
    let mut log_probabilities = log_probabilities.into_iter();
    let sums: Vec<f64> = all().map(|one| log_probabilities.by_ref().take(scored(one)).sum()).collect();
    if sums.iter().any(|sum| !sum.is_finite()) {
        return Err(NotFinite { what: "a log-likelihood" }.into());
    }
    Ok(sums)
}
