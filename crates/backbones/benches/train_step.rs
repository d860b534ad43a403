//! One training step of each method, alone and in groups of 4 and 8 runs: forward, backward and AdamW on the bundled ViT,
//! batch size 32, and on a ViT-Ti at 224 px, batch size 8. Throughput is in images, over all runs of the group.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use backbones::registry;
use backbones::vision::Classifier;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use san_core::methods::{self, Method, REGISTRY};
use san_core::train::adamw::{AdamW, AdamWSettings};
use san_core::{ModelSpec, Weights};
use tch::{Device, Kind, Reduction, Tensor};

const GROUPS: [i64; 3] = [1, 4, 8];

fn train_step(criterion: &mut Criterion) {
    tch::set_num_threads(1);
    for (backbone, batch) in [("vit_micro", 32), ("vit_tiny_patch16_224.augreg_in21k", 8)] {
        let entry = registry::find(backbone).unwrap();
        let model_spec = entry.architecture.model_spec(backbone);
        let weights = Weights::random(&model_spec, 0).unwrap();
        for method in REGISTRY {
            let method = methods::find(method.name, serde_json::Map::default()).unwrap();
            if method.trainables(&model_spec).is_err() {
                continue; // not a method for classifiers
            }
            for runs in GROUPS {
                let mut group = criterion.benchmark_group(format!("{backbone}/{}", method.name()));
                group.throughput(Throughput::Elements((runs * batch).unsigned_abs()));
                group.sample_size(10).warm_up_time(Duration::from_millis(500));
                let mut step = step(&*entry.architecture, &model_spec, &weights, &*method, runs, batch);
                group.bench_function(format!("{runs}"), |bencher| bencher.iter(&mut step));
                group.finish();
            }
        }
    }
}

/// A training step of `runs` runs of a method on `batch` images each.
fn step(
    architecture: &dyn backbones::Architecture,
    model_spec: &ModelSpec,
    weights: &Weights,
    method: &dyn Method,
    runs: i64,
    batch: i64,
) -> impl FnMut() + use<> {
    let seeds: Vec<u64> = (0..runs.unsigned_abs()).collect();
    let (trainables, adapters) =
        methods::prepare(method, &[], model_spec, weights, 10, &seeds, Device::Cpu).unwrap();
    let model = Classifier::new(architecture, model_spec, weights, &adapters, &trainables).unwrap();
    let mut optimiser = AdamW::new(&trainables, AdamWSettings::default()).unwrap();
    let size = architecture.image_size();
    let images = Tensor::randn([runs * batch, 3, size, size], (Kind::Float, Device::Cpu));
    let labels = Tensor::zeros([runs * batch], (Kind::Int64, Device::Cpu));
    let rates = Tensor::full([runs, 1], 1e-3, (Kind::Float, Device::Cpu));
    move || {
        let logits = model.forward(black_box(&images));
        let losses = logits.cross_entropy_loss(&labels, None::<Tensor>, Reduction::Sum, -100, 0.0);
        let gradient = trainables.gradient(&losses).unwrap();
        optimiser.step(&trainables, &gradient, &rates, None).unwrap();
    }
}

criterion_group! { name = benches; config = Criterion::default(); targets = train_step }
criterion_main!(benches);
