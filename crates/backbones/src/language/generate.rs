//! Text generation: greedy decoding, beam search, and log-likelihoods of given continuations.
//!
//! Prompts in a batch are left-padded, so that generation continues at the same column for all; positions skip
//! padding and padding is masked, so a prompt's answer does not depend on the other prompts. Beam search
//! follows transformers' `generate` (length penalty 1, no early stopping).

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
    pub ends: Vec<i64>,
    /// Maximum number of new tokens.
    pub new_tokens: i64,
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
    pub fn of_tokens(model: &dyn LanguageModel, prompts: &[Vec<i64>], device: Device) -> Result<Self, Error> {
        let length = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let (mut tokens, mut valid) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let padding = length - prompt.len();
            tokens.extend(std::iter::repeat_n(0, padding).chain(prompt.iter().copied()));
            valid.extend((0..length).map(|place| place >= padding));
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
    let mut reader = Reader::new(model, prompts, limits)?;
    let answers = match decoding {
        Decoding::Greedy => greedy(&mut reader, limits)?,
        Decoding::Beams(beams) => search(&mut reader, beams.max(1), limits)?,
    };
    if reader.finite.f_int64_value(&[])? == 0 {
        return Err(NotFinite { what: "a logit" }.into());
    }
    Ok(answers)
}

/// A model that has processed the prompts and the tokens chosen so far.
struct Reader<'a> {
    model: &'a dyn LanguageModel,
    cache: Cache,
    valid: Tensor,
    /// Whether any prompt has padding; otherwise the built-in causal mask suffices and is faster.
    padded: bool,
    /// Logits `[rows, vocabulary]` of the next token.
    scores: Tensor,
    /// Whether all logits so far were finite; kept on the device and read once, at the end.
    finite: Tensor,
}

impl<'a> Reader<'a> {
    fn new(model: &'a dyn LanguageModel, prompts: &Prompts, limits: &Limits) -> Result<Self, Error> {
        let length = prompts.valid.size()[1];
        let mut cache = Cache::new(length + limits.new_tokens);
        let padded = i64::try_from(prompts.valid.logical_not().any()).unwrap_or(1) != 0;
        let valid = padded.then_some(&prompts.valid);
        let hidden = model.hidden(&prompts.embedded, valid, Some(&mut cache));
        let scores = model.scores(&hidden.narrow(1, length - 1, 1)).squeeze_dim(1);
        let finite = scores.f_isfinite()?.f_all()?;
        Ok(Self { model, cache, valid: prompts.valid.shallow_clone(), padded, scores, finite })
    }

    fn rows(&self) -> i64 {
        self.valid.size()[0]
    }

    /// Processes one more token of each row.
    fn read(&mut self, tokens: &[i64]) -> Result<(), Error> {
        let device = self.valid.device();
        let tokens = Tensor::f_from_slice(tokens)?.f_to_device(device)?.f_unsqueeze(1)?;
        self.valid = Tensor::f_cat(&[&self.valid, &tokens.f_ones_like()?.f_to_kind(Kind::Bool)?], 1)?;
        let embedded = self.model.embed(&tokens);
        let valid = self.padded.then_some(&self.valid);
        let hidden = self.model.hidden(&embedded, valid, Some(&mut self.cache));
        self.scores = self.model.scores(&hidden).f_squeeze_dim(1)?;
        self.finite = self.finite.f_logical_and(&self.scores.f_isfinite()?.f_all()?)?;
        Ok(())
    }

    /// Keeps these rows; a row may be repeated.
    fn select(&mut self, rows: &[i64]) -> Result<(), Error> {
        let rows = Tensor::f_from_slice(rows)?.f_to_device(self.valid.device())?;
        self.cache.select(&rows);
        self.valid = self.valid.f_index_select(0, &rows)?;
        self.scores = self.scores.f_index_select(0, &rows)?;
        Ok(())
    }
}

fn greedy(reader: &mut Reader<'_>, limits: &Limits) -> Result<Vec<Vec<i64>>, Error> {
    let mut answers = vec![Vec::new(); usize::try_from(reader.rows()).unwrap_or(0)];
    // The prompts still being answered, in the order of the reader's rows.
    let mut open: Vec<usize> = (0..answers.len()).collect();
    for step in 0..limits.new_tokens {
        let chosen = Vec::<i64>::try_from(reader.scores.f_argmax(-1, false)?.f_to_device(Device::Cpu)?)?;
        let going: Vec<usize> = (0..open.len()).filter(|row| !limits.ends.contains(&chosen[*row])).collect();
        for &row in &going {
            answers[open[row]].push(chosen[row]);
        }
        if going.is_empty() || step + 1 == limits.new_tokens {
            break;
        }
        if going.len() < open.len() {
            reader.select(&going.iter().map(|&row| row as i64).collect::<Vec<_>>())?;
        }
        open = going.iter().map(|&row| open[row]).collect();
        reader.read(&going.iter().map(|&row| chosen[row]).collect::<Vec<_>>())?;
    }
    Ok(answers)
}

/// A hypothesis in progress or finished.
#[derive(Debug, Clone)]
struct Text {
    tokens: Vec<i64>,
    /// Sum of its tokens' log-probabilities.
    likelihood: f64,
}

/// The hypotheses of one prompt.
#[derive(Debug)]
struct Beam {
    followed: Vec<Text>,
    /// Finished hypotheses by mean log-probability (the first field), best first, at most one per beam.
    ended: Vec<(f64, Vec<i64>)>,
    done: bool,
}

impl Beam {
    fn end(&mut self, mean: f64, tokens: Vec<i64>, beams: usize) {
        let place = self.ended.iter().take_while(|(other, _)| *other >= mean).count();
        self.ended.insert(place, (mean, tokens));
        self.ended.truncate(beams);
    }
}

fn search(reader: &mut Reader<'_>, beams: i64, limits: &Limits) -> Result<Vec<Vec<i64>>, Error> {
    let (prompts, width) = (reader.rows(), usize::try_from(beams).unwrap_or(1));
    reader.select(&(0..prompts * beams).map(|row| row / beams).collect::<Vec<_>>())?;
    // Initially all hypotheses of a prompt are identical, so only the first may be extended.
    let start = |rank| Text { tokens: Vec::new(), likelihood: if rank == 0 { 0.0 } else { -1e9 } };
    let beam = || Beam { followed: (0..width).map(start).collect(), ended: Vec::new(), done: false };
    let mut all: Vec<Beam> = (0..prompts).map(|_| beam()).collect();
    for step in 1..=limits.new_tokens {
        let (mut rows, mut tokens) = (Vec::new(), Vec::new());
        let candidates = candidates(reader, &all, beams)?;
        for ((beam, candidates), prompt) in all.iter_mut().zip(candidates).zip(0..) {
            let chosen = go_on(beam, candidates, width, step, limits);
            for (row, token) in chosen {
                rows.push(prompt * beams + row as i64);
                tokens.push(token);
            }
        }
        if all.iter().all(|beam| beam.done) || step == limits.new_tokens {
            break;
        }
        reader.select(&rows)?;
        reader.read(&tokens)?;
    }
    Ok(all.into_iter().map(|beam| best(beam, width)).collect())
}

/// A hypothesis, its next token and their joint log-probability.
type Candidate = (usize, i64, f64);

/// Each prompt's most likely one-token extensions, twice as many as beams.
fn candidates(reader: &Reader<'_>, all: &[Beam], beams: i64) -> Result<Vec<Vec<Candidate>>, Error> {
    let vocabulary = reader.scores.size()[1];
    let likelihoods: Vec<f64> =
        all.iter().flat_map(|beam| beam.followed.iter().map(|text| text.likelihood)).collect();
    let before = Tensor::f_from_slice(&likelihoods)?.f_to_device(reader.scores.device())?.f_unsqueeze(1)?;
    let after = reader.scores.f_log_softmax(-1, Kind::Float)?.f_to_kind(Kind::Double)? + before;
    let (best, places) = after.f_view([-1, beams * vocabulary])?.f_topk(2 * beams, 1, true, true)?;
    let best = Vec::<f64>::try_from(best.f_flatten(0, -1)?.f_to_device(Device::Cpu)?)?;
    let places = Vec::<i64>::try_from(places.f_flatten(0, -1)?.f_to_device(Device::Cpu)?)?;
    let candidate = |(&likelihood, &place): (&f64, &i64)| {
        (usize::try_from(place / vocabulary).unwrap_or(0), place % vocabulary, likelihood)
    };
    let candidates: Vec<Candidate> = best.iter().zip(&places).map(candidate).collect();
    let each = usize::try_from(2 * beams).unwrap_or(2);
    Ok(candidates.chunks(each).map(<[Candidate]>::to_vec).collect())
}

/// Finishes hypotheses at end tokens and keeps the best of the rest; returns each kept one's origin and new
/// token.
#[allow(clippy::cast_precision_loss)]
fn go_on(
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
    let (mut followed, mut chosen) = (Vec::new(), Vec::new());
    let best = candidates.first().map_or(f64::NEG_INFINITY, |(_, _, likelihood)| *likelihood);
    for (rank, (text, token, likelihood)) in candidates.into_iter().enumerate() {
        let mut tokens = beam.followed[text].tokens.clone();
        if limits.ends.contains(&token) {
            if rank < width {
                beam.end(likelihood / length, tokens, width);
            }
        } else if followed.len() < width {
            tokens.push(token);
            followed.push(Text { tokens, likelihood });
            chosen.push((text, token));
        }
    }
    beam.followed = followed;
    let worst = beam.ended.last().map_or(f64::NEG_INFINITY, |(mean, _)| *mean);
    beam.done = beam.ended.len() == width && worst >= best / length;
    chosen.resize(width, (0, 0));
    chosen
}

#[allow(clippy::cast_precision_loss)]
fn best(mut beam: Beam, width: usize) -> Vec<i64> {
    if !beam.done {
        for text in std::mem::take(&mut beam.followed) {
            beam.end(text.likelihood / text.tokens.len().max(1) as f64, text.tokens, width);
        }
    }
    beam.ended.into_iter().next().map(|(_, tokens)| tokens).unwrap_or_default()
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
    continuations: &[Continuation],
    device: Device,
) -> Result<Vec<f64>, Error> {
    let _guard = tch::no_grad_guard();
    let whole: Vec<Vec<i64>> =
        continuations.iter().map(|one| [&one.prompt[..], &one.text[..]].concat()).collect();
    let length = whole.iter().map(Vec::len).max().unwrap_or(0);
    // Right padding: earlier tokens never attend to it.
    let tokens: Vec<i64> = whole
        .iter()
        .flat_map(|tokens| tokens.iter().copied().chain(std::iter::repeat_n(0, length - tokens.len())))
        .collect();
    let tokens = Tensor::f_from_slice(&tokens)?.f_view([whole.len() as i64, -1])?.f_to_device(device)?;
    let hidden = model.hidden(&model.embed(&tokens), None, None);
    let mut sums = Vec::with_capacity(whole.len());
    for (row, one) in continuations.iter().enumerate() {
        let (start, count) = (one.prompt.len() as i64, one.text.len() as i64);
        if start == 0 || count == 0 {
            sums.push(0.0);
            continue;
        }
        let row = row as i64;
        let behind = hidden.f_get(row)?.f_narrow(0, start - 1, count)?;
        let scores = model.scores(&behind.f_unsqueeze(0)?).f_squeeze_dim(0)?;
        let named = tokens.f_get(row)?.f_narrow(0, start, count)?.f_unsqueeze(1)?;
        let chosen = scores.f_log_softmax(-1, Kind::Float)?.f_gather(1, &named, false)?;
        sums.push(f64::try_from(chosen.f_sum(Kind::Double)?)?);
    }
    if sums.iter().any(|sum| !sum.is_finite()) {
        return Err(NotFinite { what: "a log-likelihood" }.into());
    }
    Ok(sums)
}
