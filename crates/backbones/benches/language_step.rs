//! The gradient of a training step at SmolLM2-135M's size, 8 sequences of 128 tokens: SAN and LoRA, frozen matrices in
//! f32 or bf16, with and without gradient checkpointing.
#![allow(missing_docs, clippy::unwrap_used)]

use backbones::checkpointing;
use backbones::language::LanguageArchitecture as _;
use backbones::language::decoder::Config;
use backbones::language::llama::llama;
use criterion::{Criterion, criterion_group, criterion_main};
use san_core::nn::builder::ModelBuilder;
use san_core::{Weights, methods};
use tch::{Device, Kind, Tensor};

fn language_step(criterion: &mut Criterion) {
    let architecture = llama(Config {
        num_key_value_heads: Some(3),
        tie_word_embeddings: true,
        ..Config::new(576, 1536, 30, 9, 49_152)
    });
    let model_spec = architecture.model_spec("SmolLM2-135M");
    let wide = Weights::random(&model_spec, 0).unwrap();
    let tokens = Tensor::randint(49_152, [8, 128], (Kind::Int64, Device::Cpu));
    let labels = tokens.flatten(0, 1);
    for name in ["san", "lora"] {
        let method = methods::find(name, serde_json::Map::new()).unwrap();
        for (kind, checkpointed) in [(Kind::Float, false), (Kind::BFloat16, false), (Kind::BFloat16, true)] {
            let cast = |(name, tensor): (&str, &Tensor)| {
                (
                    name.to_owned(),
                    if tensor.dim() > 1 { tensor.to_kind(kind) } else { tensor.shallow_clone() },
                )
            };
            let weights = Weights::new(wide.iter().map(cast).collect());
            let (trainables, adapters) =
                methods::prepare(&*method, &[], &model_spec, &weights, 0, &[0], Device::Cpu).unwrap();
            let model = architecture.build(&ModelBuilder::new(&weights, &adapters)).unwrap();
            let loss = |hidden: &Tensor| model.logits(hidden).flatten(0, 1).cross_entropy_for_logits(&labels);
            let kind = if checkpointed { format!("{kind:?}, checkpointing") } else { format!("{kind:?}") };
            criterion.bench_function(&format!("{name}/{kind}"), |bencher| {
                bencher.iter(|| {
                    let embedded = model.embed(&tokens);
                    if checkpointed {
                        let loss = |hidden: &Tensor| Ok(loss(hidden));
                        checkpointing::gradient(&*model, &trainables, &embedded, None, loss).unwrap().1
                    } else {
                        trainables.gradient(&loss(&model.hidden(&embedded, None, None))).unwrap()
                    }
                });
            });
        }
    }
}

criterion_group! { name = benches; config = Criterion::default().sample_size(10); targets = language_step }
criterion_main!(benches);
