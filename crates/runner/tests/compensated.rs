//! Trainings whose state is in bf16: their losses follow those in f32, blocks are updated as their gradients come, and
//! they resume bit for bit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use common::{Bench, ROWS, SYNTHETIC, done, refusal};
use runner::error::RunError;
use runner::train::checkpoint::CheckpointFile;
use runner::train::signals::StopFlag;
use runner::train::task::{Schedule, StepExamples, StepPosition, TrainTask};
use runner::train::trainer::{RunControl, TrainSettings, Trainer};
use san_core::io::safetensors::TensorFile;
use san_core::spec::init::Init;
use san_core::spec::trainable::{Group, TrainableSpec};
use san_core::train::gradients::GradientSink;
use san_core::{Trainables, Weights};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// Full fine-tuning of the bundled model for `steps` steps on other rows in each, with `protocol` and `memory` of a step.
fn tuned(steps: usize, protocol: &str, memory: &str) -> Bench {
    let rows = steps * 4 - 8;
    let text = ROWS
        .replace(
            "{rows: {folder: '.', source: {training_file: some, val_rows: 2, val_seed: 1}}}",
            "SYNTHETIC",
        )
        .replace("SYNTHETIC", &format!("{{synthetic: {{train: {rows}, val: 8, test: 8}}}}"))
        .replace("BACKBONE", "llama_micro")
        .replace("{method: san, learning_rate: 1.0e-2}", "{method: fft, learning_rate: 2.0e-4}")
        .replace("epochs: 1", &format!("epochs: 1\n      precision: bf16\n      {protocol}"))
        .replace("max_length: 128, train_on_inputs: false", "max_length: 256, train_on_inputs: true")
        .replace("warmup_steps: 1", "warmup_steps: 10")
        .replace("max_new_tokens: 4", &format!("max_new_tokens: 2\n          memory: {memory}"));
    let bench = Bench::new(&text);
    done(&bench, &["run", "vtab.yaml"]);
    bench
}

/// The losses of each step of the only run, and its record.
fn losses(bench: &Bench) -> (Vec<f64>, Value) {
    let run = &bench.runs()[0];
    let steps = std::fs::read_to_string(run.join("steps.jsonl")).unwrap();
    let loss = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap();
    let record = serde_json::from_slice(&std::fs::read(run.join("record.json")).unwrap()).unwrap();
    (steps.lines().map(loss).collect(), record)
}

/// The relative difference between the mean losses in bf16 and in f32: of all steps, and of the last fifth.
fn deviations(steps: usize, memory: &str) -> [f64; 2] {
    let run = |state: &str, memory: &str| {
        let protocol = format!("gradient_clipping: 1.0\n      adamw: {{state: {state}}}");
        let (losses, record) = losses(&tuned(steps, &protocol, memory));
        assert_eq!(record["protocol"]["adamw"]["state"], state);
        (losses, record["metrics"]["forgetting"]["before"].clone())
    };
    let ((expected, before), (found, again)) = (run("f32", "{}"), run("bf16", memory));
    assert_eq!([expected.len(), found.len()], [steps; 2]);
    // Measured on the frozen model, whose weights are kept in main memory meanwhile.
    assert_eq!(before, again);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let last = steps * 4 / 5;
    let deviations =
        [mean(&found) / mean(&expected) - 1.0, mean(&found[last..]) / mean(&expected[last..]) - 1.0];
    println!("{steps} steps, {memory}: {deviations:?}");
    deviations
}

#[test]
fn the_loss_of_full_fine_tuning_in_bf16_follows_that_in_f32() {
    for (steps, memory) in [(60, "{gradient_checkpointing: true}"), (20, "{micro_batch_size: 3}")] {
        let [all, last] = deviations(steps, memory);
        assert!(all.abs() < 0.003 && last.abs() < 0.01, "{all} {last}");
    }
}

#[test]
#[ignore = "takes half a minute"]
fn the_loss_of_full_fine_tuning_in_bf16_follows_that_in_f32_over_300_steps() {
    let [all, last] = deviations(300, "{gradient_checkpointing: true}");
    assert!(all.abs() < 0.01 && last.abs() < 0.02, "{all} {last}");
}

#[test]
fn adapters_are_written_in_bf16_and_read_again() {
    let bench = tuned(5, "adamw: {state: bf16}", "{gradient_checkpointing: true}");
    let run = bench.runs()[0].clone();
    let parameters: u64 = losses(&bench).1["parameters"]["trainable"].as_u64().unwrap();
    let bytes = std::fs::metadata(run.join("adapter.safetensors")).unwrap().len();
    assert!(bytes > 2 * parameters && bytes < 2 * parameters + 20_000, "{bytes} bytes, {parameters} numbers");
    assert!(!TensorFile::read(&run.join("adapter.safetensors")).unwrap().tensors.is_empty());
    done(&bench, &["merge", run.to_str().unwrap(), "--output", "merged.safetensors"]);
}

#[test]
fn an_average_in_bf16_is_refused() {
    let text = SYNTHETIC.replace("epochs: 2", "epochs: 2\n      ema: 0.99\n      adamw: {state: bf16}");
    let output = Bench::new(&text).run(&["plan", "vtab.yaml"]);
    let message = refusal(&output, 3);
    assert!(message.contains("`ema` changes by less than bf16 can represent"), "{message}");
}

#[test]
fn runs_in_bf16_are_trained_one_by_one() {
    let text = SYNTHETIC
        .replace("[1.0e-3, 1.0e-2]", "1.0e-3")
        .replace("epochs: 2", "epochs: 2\n      adamw: {state: bf16}");
    let bench = Bench::new(&text);
    done(&bench, &["run", "vtab.yaml", "--group", "4"]);
    assert!(!bench.runs().is_empty());
    for run in bench.runs() {
        let record: Value = serde_json::from_slice(&std::fs::read(run.join("record.json")).unwrap()).unwrap();
        assert!(record["cost"].get("group_size").is_none());
        assert_eq!(record["state"], "finished");
    }
}

/// Steps on two tensors: two parts of the model contribute to the second, and none to the first in every third step.
struct Toy {
    step: u64,
    stop_before: Option<u64>,
    streams: bool,
}

impl Toy {
    fn noise(&self, of: u64, count: i64) -> Tensor {
        let numbers = Tensor::arange(count, (Kind::Float, Device::Cpu)) + (self.step * 100 + of) as f64;
        (numbers.sin() * 3.0).to_kind(Kind::BFloat16).unsqueeze(0)
    }
}

impl TrainTask for Toy {
    fn steps(&self, _: u64) -> Vec<StepExamples> {
        (0..12).map(|step| vec![vec![step]]).collect()
    }

    fn schedule(&self, learning_rate: f64, _: &[u64]) -> Schedule {
        Box::new(move |step| learning_rate / (1.0 + step as f64))
    }

    fn load(&mut self, _: &[Vec<usize>], position: StepPosition) -> Result<()> {
        if self.stop_before == Some(position.step) {
            self.stop_before = None;
            return Err(RunError::Interrupted.into());
        }
        self.step = position.step;
        Ok(())
    }

    fn gradient(&self, _: &Trainables) -> Result<(Tensor, Tensor)> {
        panic!("gradients are passed on one by one")
    }

    fn gradients(&self, _: &Trainables, sink: &mut dyn GradientSink) -> Result<Tensor> {
        sink.take(1, self.noise(1, 5))?;
        if self.step % 3 != 1 {
            sink.take(0, self.noise(2, 8))?;
        }
        sink.take(1, self.noise(3, 5))?;
        Ok(Tensor::ones([1], (Kind::Float, Device::Cpu)))
    }

    fn streams_gradients(&self) -> bool {
        self.streams
    }
}

/// The values after twelve steps, taken at once or with an interruption.
fn trained(streams: bool, gradient_clipping: Option<f64>, stop_before: Option<u64>) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = CheckpointFile::of_run(folder.path(), "run", Duration::from_secs(3600));
    let settings = TrainSettings { gradient_clipping, ..TrainSettings::default() };
    let mut toy = Toy { step: 0, stop_before, streams };
    loop {
        let mut trainer = fresh(&settings);
        trainer.restore(&checkpoint).unwrap();
        let mut control =
            RunControl { stop: &StopFlag::default(), checkpoint: &checkpoint, progress: &mut |_, _| () };
        match trainer.train(&mut toy, 1, &[0.1], &mut control) {
            Ok(()) => {
                std::fs::create_dir(folder.path().join("run")).unwrap();
                trainer.publish_logs(&[&folder.path().join("run") as &Path]).unwrap();
                let values = trainer.trainables.values().to_kind(Kind::Float);
                return Vec::try_from(values.flatten(0, -1)).unwrap();
            }
            Err(error) => trainer.save_after_error(&error, &toy, &checkpoint).unwrap(),
        }
    }
}

fn fresh(settings: &TrainSettings) -> Trainer {
    let spec = |name: &str, length: i64| TrainableSpec {
        name: name.into(),
        shape: vec![length],
        init: Init::Ones,
        group: Group::Method,
    };
    let options = (Kind::BFloat16, Device::Cpu);
    let specs = vec![spec("a", 8), spec("b", 5)];
    Trainer::new(Trainables::allocate_in(specs, &[7], &Weights::default(), options).unwrap(), settings)
        .unwrap()
}

#[test]
fn a_training_in_bf16_resumes_bit_for_bit_and_streams_the_same_gradients() {
    for clipping in [None, Some(1.0)] {
        let whole = trained(false, clipping, None);
        for streams in [false, true] {
            assert_eq!(trained(streams, clipping, None), whole, "{clipping:?}");
            for stop_before in [4, 5] {
                assert_eq!(trained(streams, clipping, Some(stop_before)), whole, "{clipping:?}");
            }
        }
    }
    assert_ne!(trained(true, None, None), trained(true, Some(1.0), None), "clipping has an effect");
}
