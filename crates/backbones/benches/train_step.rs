//! One training step of each method: forward, backward and AdamW on the bundled ViT, batch size 32, and on a
//! ViT-Ti at 224 px, batch size 8.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use backbones::registry;
use backbones::vision::Classifier;
use criterion::{Criterion, criterion_group, criterion_main};
use san_core::Weights;
use san_core::methods::{self, REGISTRY};
use san_core::train::adamw::{AdamW, AdamWSettings};
use tch::{Device, Kind, Tensor};

fn train_step(criterion: &mut Criterion) {
    tch::set_num_threads(1);
    for (backbone, batch) in [("vit_micro", 32), ("vit_tiny_patch16_224.augreg_in21k", 8)] {
        let entry = registry::find(backbone).unwrap();
        let model_spec = entry.architecture.model_spec(backbone);
        let weights = Weights::random(&model_spec, 0).unwrap();
        let size = entry.architecture.image_size();
        let images = Tensor::randn([batch, 3, size, size], (Kind::Float, Device::Cpu));
        let labels = Tensor::zeros([batch], (Kind::Int64, Device::Cpu));
        for method in REGISTRY {
            let method = methods::find(method.name, serde_json::Map::default()).unwrap();
            let (trainables, adapters) =
                methods::prepare(&*method, &[], &model_spec, &weights, 10, &[0], Device::Cpu).unwrap();
            let model =
                Classifier::new(&*entry.architecture, &model_spec, &weights, &adapters, &trainables).unwrap();
            let mut optimiser = AdamW::new(&trainables, AdamWSettings::default()).unwrap();
            let rates = Tensor::full([1, 1], 1e-3, (Kind::Float, Device::Cpu));
            criterion.bench_function(&format!("{backbone}/{}", method.name()), |bencher| {
                bencher.iter(|| {
                    let loss = model.forward(black_box(&images)).cross_entropy_for_logits(&labels);
                    let gradient = trainables.gradient(&loss).unwrap();
                    optimiser.step(&trainables, &gradient, &rates).unwrap();
                });
            });
        }
    }
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = train_step }
criterion_main!(benches);
