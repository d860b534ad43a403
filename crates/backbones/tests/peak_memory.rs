//! No method other than full fine-tuning needs memory of a weight's size in a training step: W diag(p), W + B A
//! and the like are never built.
//!
//! Measured as the growth of the process's peak over its size before the step (Linux: the peak is reset through
//! /proc/self/clear_refs), on one block with large weights and small activations. The C library keeps freed
//! memory, which could hide a temporary; so the test reruns itself with large allocations served by mmap, and
//! first verifies that it would detect a temporary.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use backbones::Architecture;
use backbones::vision::Classifier;
use backbones::vision::vit;
use san_core::Weights;
use san_core::methods::{self, REGISTRY};
use san_core::train::adamw::{AdamW, AdamWSettings};
use serde_json::Map;
use tch::{Device, Kind, Tensor};

const WIDTH: i64 = 1536;
/// The smallest of the block's weights, width x width in f32, in MB.
const SMALLEST_WEIGHT: f64 = (WIDTH * WIDTH * 4) as f64 / 1e6;

/// Set in the process that measures.
const MEASURING: &str = "SAN_TEST_MEASURES_MEMORY";

/// A line of /proc/self/status in MB.
fn status(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
}

/// Growth of a training step's peak memory over the memory before it, MB.
fn growth(name: &str, architecture: &dyn Architecture, weights: &Weights) -> f64 {
    let model_spec = architecture.model_spec("wide");
    let method = methods::find(name, Map::new()).unwrap();
    let (trainables, adapters) =
        methods::prepare(&*method, &[], &model_spec, weights, 5, &[0], Device::Cpu).unwrap();
    let model = Classifier::new(architecture, &model_spec, weights, &adapters, &trainables).unwrap();
    let rates = Tensor::full([1, 1], 1e-3, (Kind::Float, Device::Cpu));
    let mut optimiser = AdamW::new(&trainables, AdamWSettings::default()).unwrap();
    let size = architecture.image_size();
    let image = Tensor::ones([1, 3, size, size], (Kind::Float, Device::Cpu));
    let mut step = || {
        let loss = model.forward(&image).cross_entropy_for_logits(&Tensor::from_slice(&[1_i64]));
        let gradient = trainables.gradient(&loss).unwrap();
        optimiser.step(&trainables, &gradient, &rates, None).unwrap();
    };
    step(); // libtorch's persistent buffers are now allocated
    peak_of(step)
}

/// Growth of a closure's peak memory over the memory before it, MB.
fn peak_of(mut work: impl FnMut()) -> f64 {
    let before = status("VmRSS");
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    work();
    status("VmHWM") - before
}

#[test]
fn only_full_fine_tuning_allocates_the_size_of_a_weight_in_a_step() {
    if std::env::var_os(MEASURING).is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "only_full_fine_tuning_allocates_the_size_of_a_weight_in_a_step",
                "--nocapture",
            ])
            .envs([(MEASURING, "1"), ("MALLOC_MMAP_THRESHOLD_", "262144"), ("MALLOC_TRIM_THRESHOLD_", "0")])
            .status();
        assert!(status.unwrap().success(), "see above");
        return;
    }
    tch::set_num_threads(1);
    let weight = Tensor::ones([WIDTH, WIDTH], (Kind::Float, Device::Cpu));
    let temporary = peak_of(|| assert!((&weight * 2.0).numel() > 0));
    assert!(temporary > 0.9 * SMALLEST_WEIGHT, "a temporary would go undetected: {temporary:.2} MB");
    let architecture = vit::Config::new(32, 16, WIDTH, 1, 12);
    let weights = Weights::random(&architecture.model_spec("wide"), 0).unwrap();
    let model_spec = architecture.model_spec("wide");
    let is_compatible = |name| methods::find(name, Map::new()).unwrap().trainables(&model_spec).is_ok();
    for entry in REGISTRY.iter().filter(|entry| is_compatible(entry.name)) {
        let growth = growth(entry.name, &architecture, &weights);
        println!("{:12} {growth:8.2} MB (smallest weight {SMALLEST_WEIGHT:.2} MB)", entry.name);
        assert_eq!(growth > SMALLEST_WEIGHT, entry.name == "fft", "{}: {growth:.2} MB", entry.name);
    }
}
