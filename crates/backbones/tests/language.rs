//! LLaMA and Qwen2 against transformers: logits, gradients and generated tokens for the same weights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use backbones::language::generate::{Continuation, Decoding, Limits, Prompts, generate, likelihoods};
use backbones::language::{Cache, LanguageArchitecture, LanguageModel, configure};
use common::{assert_close, method};
use san_core::io::safetensors::TensorFile;
use san_core::methods;
use san_core::nn::builder::{AdapterSet, ModelBuilder};
use san_core::{Trainables, Weights};
use serde_json::json;
use tch::{Device, Kind, Tensor, no_grad};

const CASES: [&str; 5] =
    ["llama_plain", "llama_grouped_tied", "llama3_scaled", "qwen2_plain", "qwen2_grouped_tied"];
const TOLERANCE: f64 = 1e-4;

struct Case {
    config: Arc<dyn LanguageArchitecture>,
    file: TensorFile,
    weights: Weights,
}

impl Case {
    fn read(name: &str) -> Self {
        tch::set_num_threads(1);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let file = TensorFile::read(&folder.join(format!("{name}.safetensors"))).unwrap();
        let config = configure(serde_json::from_str(&file.metadata["config"]).unwrap()).unwrap();
        let weights = under(&file, "weights.");
        let weights = Weights::new(weights);
        weights.check(&config.model_spec(name), name).unwrap();
        Self { config, file, weights }
    }

    fn get(&self, name: &str) -> &Tensor {
        self.file.tensors.get(name).unwrap_or_else(|| panic!("no {name} in the fixture"))
    }

    fn integers(&self, name: &str) -> Tensor {
        self.get(name).to_kind(Kind::Int64)
    }

    fn model(&self) -> Box<dyn LanguageModel> {
        self.config.build(&ModelBuilder::new(&self.weights, &AdapterSet::default())).unwrap()
    }

    /// The padded tokens with padding removed.
    fn prompts(&self) -> Vec<Vec<i64>> {
        let (tokens, valid) = (self.integers("padded.tokens"), self.get("padded.valid"));
        let row = |row: i64| {
            let valid = Vec::<f32>::try_from(valid.get(row)).unwrap();
            let tokens = Vec::<i64>::try_from(tokens.get(row)).unwrap();
            tokens.into_iter().zip(valid).filter(|(_, valid)| *valid > 0.0).map(|(token, _)| token).collect()
        };
        (0..tokens.size()[0]).map(row).collect()
    }
}

fn under(file: &TensorFile, prefix: &str) -> BTreeMap<String, Tensor> {
    let strip =
        |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.copy()));
    file.tensors.iter().filter_map(strip).collect()
}

#[test]
fn logits_and_all_gradients_match_transformers() {
    for name in CASES {
        let case = Case::read(name);
        let (model_spec, method) = (case.config.model_spec(name), method("fft", json!({})));
        let (trainables, adapters): (Trainables, AdapterSet) =
            methods::prepare(&*method, &[], &model_spec, &case.weights, 0, &[0], Device::Cpu).unwrap();
        let model = case.config.build(&ModelBuilder::new(&case.weights, &adapters)).unwrap();
        let logits = model.forward(&case.integers("tokens"), None);
        assert_close(name, &logits, case.get("scores"), TOLERANCE);
        let flat = trainables.gradient(&(logits * case.get("probe")).sum(None)).unwrap();
        let expected = under(&case.file, "grad.");
        let mut offset = 0;
        for (spec, _) in trainables.iter() {
            let ours = flat.get(0).narrow(0, offset, spec.count()).view(spec.shape.as_slice());
            let scale = f64::try_from(expected[&spec.name].abs().max()).unwrap().max(1.0);
            assert_close(&spec.name, &ours, &expected[&spec.name], TOLERANCE * scale);
            offset += spec.count();
        }
        assert_eq!(expected.len(), trainables.iter().count());
    }
}

#[test]
fn left_padding_does_not_change_logits() {
    for name in CASES {
        let case = Case::read(name);
        let valid = case.get("padded.valid").to_kind(Kind::Bool);
        let logits = no_grad(|| case.model().forward(&case.integers("padded.tokens"), Some(&valid)));
        let mask = valid.unsqueeze(-1);
        assert_close(name, &(logits * &mask), &(case.get("padded.scores") * &mask), TOLERANCE);
    }
}

/// Two texts of 5 and 4 tokens that share their first 3: separately, and after one shared prefix, with a
/// padding token at the end.
#[test]
fn texts_that_share_a_prefix_do_not_attend_to_each_other() {
    for name in CASES {
        let case = Case::read(name);
        let model = case.model();
        let forward = |tokens: &[i64], texts: Option<&[i64]>| {
            let texts = texts.map(|texts| Tensor::from_slice(texts).unsqueeze(0));
            no_grad(|| model.forward(&Tensor::from_slice(tokens).unsqueeze(0), texts.as_ref()))
        };
        let (one, other) = (forward(&[1, 5, 9, 7, 4], None), forward(&[1, 5, 9, 3], None));
        let together = forward(&[1, 5, 9, 7, 4, 3, 0], Some(&[1, 1, 1, 2, 2, 3, 0]));
        assert_close(name, &together.narrow(1, 0, 5), &one, 1e-5);
        assert_close(name, &together.narrow(1, 5, 1), &other.narrow(1, 3, 1), 1e-5);
    }
}

fn limits(end_tokens: &[i64]) -> Limits {
    Limits { end_tokens: end_tokens.to_vec(), max_new_tokens: 12 }
}

/// The tokens of a stored row before its end token.
fn before_end_token(row: &Tensor, end_tokens: &[i64]) -> Vec<i64> {
    let tokens = Vec::<i64>::try_from(row).unwrap();
    tokens.into_iter().take_while(|token| !end_tokens.contains(token)).collect()
}

#[test]
fn greedy_and_beam_search_match_transformers_at_every_batch_size() {
    let several = [1, 3, 7, 9];
    for name in CASES {
        let case = Case::read(name);
        let model = case.model();
        for (key, decoding, end_tokens) in [
            ("greedy", Decoding::Greedy, &several[..1]),
            ("beams", Decoding::Beams(4), &several[..1]),
            ("greedy_ends", Decoding::Greedy, &several),
            ("beams_ends", Decoding::Beams(3), &several),
        ] {
            let expected = case.integers(key);
            for size in [1, 2, 3] {
                let mut answers = Vec::new();
                for some in case.prompts().chunks(size) {
                    let prompts = Prompts::from_tokens(&*model, some, Device::Cpu).unwrap();
                    answers.extend(generate(&*model, &prompts, decoding, &limits(end_tokens)).unwrap());
                }
                for (row, answer) in answers.iter().enumerate() {
                    let expected = before_end_token(&expected.get(row as i64), end_tokens);
                    assert_eq!(*answer, expected, "{name}, {key}, batches of {size}, row {row}");
                }
            }
        }
    }
}

#[test]
fn cached_and_padded_generation_matches_uncached_unpadded_generation() {
    let case = Case::read("llama_grouped_tied");
    let model = case.model();
    let words = case.integers("tokens").flatten(0, -1);
    let words = Vec::<i64>::try_from(&words).unwrap();
    let prompts: Vec<Vec<i64>> = (0..32)
        .map(|row| (0..=row).map(|column| words[(5 * row + 3 * column) % words.len()]).collect())
        .collect();
    let limits = Limits { end_tokens: Vec::new(), max_new_tokens: 12 };
    for size in [1, 32] {
        let batches = prompts.chunks(size).flat_map(|some| {
            let some = Prompts::from_tokens(&*model, some, Device::Cpu).unwrap();
            generate(&*model, &some, Decoding::Greedy, &limits).unwrap()
        });
        for (prompt, answer) in prompts.iter().zip(batches) {
            let mut whole = prompt.clone();
            for _ in 0..limits.max_new_tokens {
                let tokens = Tensor::from_slice(&whole).unsqueeze(0);
                let last = no_grad(|| model.forward(&tokens, None)).get(0).get(-1);
                whole.push(i64::try_from(last.argmax(0, false)).unwrap());
            }
            assert_eq!(answer, whole[prompt.len()..], "batches of {size}, a prompt of {}", prompt.len());
        }
    }
}

#[test]
fn the_cache_does_not_change_logits_for_any_chunk_sizes() {
    let case = Case::read("llama_grouped_tied");
    let (model, tokens) = (case.model(), case.integers("tokens"));
    no_grad(|| {
        let whole = model.forward(&tokens, None);
        for chunks in [[1; 9].as_slice(), &[4, 5], &[3, 1, 5]] {
            let mut cache = Cache::new(9);
            let mut from = 0;
            for &count in chunks {
                let chunk = model.embed(&tokens.narrow(1, from, count));
                let logits = model.logits(&model.hidden(&chunk, None, Some(&mut cache)));
                assert_close("chunk", &logits, &whole.narrow(1, from, count), 1e-5);
                from += count;
            }
        }
    });
}

#[test]
fn a_likelihood_is_summed_over_the_tokens_of_the_continuation() {
    let case = Case::read("llama_plain");
    let model = case.model();
    let tokens = case.integers("tokens");
    let rows: Vec<Vec<i64>> = (0..2).map(|row| Vec::<i64>::try_from(tokens.get(row)).unwrap()).collect();
    let split = |row: &[i64], at: usize| Continuation { prompt: row[..at].into(), text: row[at..].into() };
    let continuations = [split(&rows[0], 4), split(&rows[1][..6], 5), split(&rows[1], 1)];
    let together = likelihoods(&*model, &continuations, Device::Cpu).unwrap();
    let log_probabilities = case.get("scores").log_softmax(-1, Kind::Float);
    for (found, (row, from, to)) in together.iter().zip([(0, 4, 9), (1, 5, 6), (1, 1, 9)]) {
        let expected: f64 = (from..to)
            .map(|column| {
                log_probabilities.double_value(&[row, column - 1, rows[row as usize][column as usize]])
            })
            .sum();
        assert!((found - expected).abs() < 1e-3, "{found} {expected}");
    }
}
