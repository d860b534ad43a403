//! A training step on twelve questions about one image: each in its own sequence, or all in one sequence after
//! the image; frozen matrices in f32 or bf16. SmolLM2-135M's shape with a fifth of its blocks, LoRA of rank 32,
//! one thread; the image and the text before it are 99 tokens, a question with its answer 25.
#![allow(missing_docs, clippy::unwrap_used)]

use backbones::language::decoder::Config;
use backbones::language::llama::llama;
use backbones::language::{LanguageArchitecture as _, LanguageModel, SHARED};
use criterion::{Criterion, criterion_group, criterion_main};
use san_core::nn::builder::ModelBuilder;
use san_core::{Trainables, Weights, methods};
use tch::{Device, Kind, Tensor};

const QUESTIONS: i64 = 12;
const IMAGE: i64 = 99;
const QUESTION: i64 = 25;
/// The last tokens of a question, which are trained on.
const ANSWER: i64 = 2;

/// Tokens `[examples, length]`, the text that each belongs to, and the positions whose next token is part of an
/// answer.
struct Batch {
    tokens: Tensor,
    texts: Option<Tensor>,
    positions: Tensor,
}

fn separate(image: &Tensor, questions: &Tensor) -> Batch {
    let tokens = Tensor::cat(&[&image.expand([QUESTIONS, IMAGE], false), questions], 1);
    let length = IMAGE + QUESTION;
    let positions =
        (0..QUESTIONS).flat_map(|row| (row * length + length - ANSWER - 1..).take(ANSWER as usize));
    Batch { tokens, texts: None, positions: Tensor::from_slice(&positions.collect::<Vec<_>>()) }
}

fn together(image: &Tensor, questions: &Tensor) -> Batch {
    let tokens = Tensor::cat(&[image, &questions.reshape([1, -1])], 1);
    let numbers = Tensor::arange(QUESTIONS, (Kind::Int64, Device::Cpu)) + SHARED + 1;
    let shared = Tensor::full([1, IMAGE], SHARED, (Kind::Int64, Device::Cpu));
    let texts = Tensor::cat(&[shared, numbers.repeat_interleave_self_int(QUESTION, 0, None).unsqueeze(0)], 1);
    let end = |question: i64| IMAGE + (question + 1) * QUESTION - ANSWER - 1;
    let positions = (0..QUESTIONS).flat_map(|question| (end(question)..).take(ANSWER as usize));
    Batch { tokens, texts: Some(texts), positions: Tensor::from_slice(&positions.collect::<Vec<_>>()) }
}

fn loss(model: &dyn LanguageModel, Batch { tokens, texts, positions }: &Batch) -> Tensor {
    let hidden = model.hidden(&model.embed(tokens), texts.as_ref(), None).flatten(0, 1);
    let next = tokens.flatten(0, 1).index_select(0, &(positions + 1));
    model.logits(&hidden.index_select(0, positions)).cross_entropy_for_logits(&next)
}

fn questions_together(criterion: &mut Criterion) {
    tch::set_num_threads(1);
    let config = llama(Config {
        num_key_value_heads: Some(3),
        tie_word_embeddings: true,
        ..Config::new(576, 1536, 6, 9, 49_152)
    });
    let model_spec = config.model_spec("SmolLM2-135M, a fifth of it");
    let options = serde_json::json!({"rank": 32, "targets": ["q", "k", "v", "up", "down"]});
    let lora = methods::find("lora", options.as_object().cloned().unwrap_or_default()).unwrap();
    let draw = |shape: [i64; 2]| Tensor::randint(49_152, shape, (Kind::Int64, Device::Cpu));
    let (image, questions) = (draw([1, IMAGE]), draw([QUESTIONS, QUESTION]));
    for kind in [Kind::Float, Kind::BFloat16] {
        let cast = |(name, tensor): (&str, &Tensor)| {
            (name.to_owned(), if tensor.dim() > 1 { tensor.to_kind(kind) } else { tensor.shallow_clone() })
        };
        let wide = Weights::random(&model_spec, 0).unwrap();
        let weights = Weights::new(wide.iter().map(cast).collect());
        let (trainables, adapters) =
            methods::prepare(&*lora, &[], &model_spec, &weights, 0, &[0], Device::Cpu).unwrap();
        let model = config.build(&ModelBuilder::new(&weights, &adapters)).unwrap();
        let step = |trainables: &Trainables, batch: &Batch| {
            let loss = loss(&*model, batch);
            drop(trainables.gradient(&loss).unwrap());
            f64::try_from(loss).unwrap()
        };
        let (separate_batch, together_batch) = (separate(&image, &questions), together(&image, &questions));
        let (one, other) = (step(&trainables, &separate_batch), step(&trainables, &together_batch));
        assert!((one - other).abs() < 2e-3 * one, "the losses differ: {one} and {other}");
        for (name, batch) in [("apart", &separate_batch), ("together", &together_batch)] {
            criterion.bench_function(&format!("{kind:?}/{name}"), |bencher| {
                bencher.iter(|| step(&trainables, batch));
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = questions_together
}
criterion_main!(benches);
