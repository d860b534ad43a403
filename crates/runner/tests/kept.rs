//! What a training keeps of its tensors: an average of them, or those with the lowest loss on held-out examples, also
//! over an interruption and for several runs together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use runner::error::RunError;
use runner::train::checkpoint::CheckpointFile;
use runner::train::signals::StopFlag;
use runner::train::task::{Schedule, StepExamples, StepPosition, TrainTask};
use runner::train::trainer::{RunControl, TrainSettings, Trainer};
use san_core::spec::init::Init;
use san_core::spec::trainable::{Group, TrainableSpec};
use san_core::{Trainables, Weights};
use tch::{Device, Kind, Tensor};

/// Losses on held-out examples, every two steps, of each run.
const HELD_OUT: [[f64; 2]; 6] = [[3.0, 3.0], [1.0, 4.0], [2.0, 5.0], [1.0, 2.0], [7.0, 2.5], [f64::NAN, 1.5]];

/// Twelve steps over two epochs, whose gradients are a function of the step and the run; stopped once before one of them.
struct Toy {
    runs: Vec<usize>,
    step: u64,
    stop_before: Option<u64>,
    /// The values that each evaluation found, by steps.
    seen: Vec<(u64, Tensor)>,
    values: Tensor,
}

impl TrainTask for Toy {
    fn steps(&self, _: u64) -> Vec<StepExamples> {
        (0..6).map(|step| self.runs.iter().map(|_| vec![step]).collect()).collect()
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
        let of_run = |run: &usize| {
            let numbers =
                Tensor::arange(8, (Kind::Float, Device::Cpu)) + (self.step as f64 + 100.0 * *run as f64);
            numbers.sin() * 3.0
        };
        let gradient = Tensor::stack(&self.runs.iter().map(of_run).collect::<Vec<_>>(), 0);
        Ok((Tensor::ones([self.runs.len() as i64], (Kind::Float, Device::Cpu)), gradient))
    }

    fn held_out_losses(&mut self, steps: u64) -> Result<Option<Vec<f64>>> {
        if !steps.is_multiple_of(2) {
            return Ok(None);
        }
        self.seen.push((steps, self.values.copy()));
        let losses = HELD_OUT[steps as usize / 2 - 1];
        Ok(Some(self.runs.iter().map(|&run| losses[run]).collect()))
    }
}

/// Trains in a folder, if need be twice; the last values, and what the evaluations saw.
fn trained(
    runs: &[usize],
    settings: TrainSettings,
    stop_before: Option<u64>,
) -> (Trainer, Vec<(u64, Tensor)>) {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = runs.iter().map(|run| format!("run{run}")).collect();
    let checkpoint = CheckpointFile::new(folder.path(), "group", &names, Duration::from_secs(3600));
    let mut stop_before = stop_before;
    let mut seen = Vec::new();
    loop {
        let mut trainer = fresh(runs, &settings);
        trainer.restore(&checkpoint).unwrap();
        let values = trainer.trainables.values().shallow_clone();
        let mut toy = Toy { runs: runs.to_vec(), step: 0, stop_before: stop_before.take(), seen, values };
        let mut control =
            RunControl { stop: &StopFlag::default(), checkpoint: &checkpoint, progress: &mut |_, _| () };
        let result = trainer.train(&mut toy, 2, &vec![0.1; runs.len()], &mut control);
        let Err(error) = result else {
            let mut folders = Vec::new();
            for name in &names {
                std::fs::create_dir(folder.path().join(name)).unwrap();
                folders.push(folder.path().join(name));
            }
            trainer.publish_logs(&folders.iter().map(AsRef::<Path>::as_ref).collect::<Vec<_>>()).unwrap();
            return (trainer, toy.seen);
        };
        trainer.save_after_error(&error, &toy, &checkpoint).unwrap();
        seen = toy.seen;
    }
}

fn fresh(runs: &[usize], settings: &TrainSettings) -> Trainer {
    let spec = TrainableSpec { name: "x".into(), shape: vec![8], init: Init::Ones, group: Group::Method };
    let seeds: Vec<u64> = runs.iter().map(|&run| run as u64).collect();
    Trainer::new(
        Trainables::allocate(vec![spec], &seeds, &Weights::default(), Device::Cpu).unwrap(),
        settings,
    )
    .unwrap()
}

fn values(trainer: &Trainer) -> Vec<f32> {
    Vec::try_from(trainer.trainables.values().flatten(0, -1)).unwrap()
}

#[test]
fn the_values_with_the_lowest_held_out_loss_are_kept_for_each_run() {
    let settings = TrainSettings { keep_best: true, ..TrainSettings::default() };
    let (trainer, seen) = trained(&[0, 1], settings, None);
    assert_eq!(seen.iter().map(|(steps, _)| *steps).collect::<Vec<_>>(), [2, 4, 6, 8, 10, 12]);
    // The first of two equal losses; one that is not a number does not count.
    for (run, best, loss) in [(0, 4, 1.0), (1, 12, 1.5)] {
        let found = trainer.progress.runs[run].best.unwrap();
        assert_eq!((found.step, found.loss), (best, loss));
        let (_, expected) = &seen[best as usize / 2 - 1];
        assert_eq!(trainer.trainables.values().get(run as i64), expected.get(run as i64), "run {run}");
    }
    let (last, _) = trained(&[0, 1], TrainSettings::default(), None);
    assert_ne!(last.trainables.values().get(0), trainer.trainables.values().get(0));
}

#[test]
fn averages_and_best_values_are_those_of_each_run_alone_and_survive_an_interruption() {
    let best = TrainSettings { keep_best: true, gradient_clipping: Some(1.0), ..TrainSettings::default() };
    let averaged = TrainSettings { ema: Some(0.8), gradient_clipping: Some(1.0), ..TrainSettings::default() };
    for settings in [best, averaged] {
        let (whole, seen) = trained(&[0, 1], settings, None);
        let alone = [0, 1].map(|run| values(&trained(&[run], settings, None).0)).concat();
        assert_eq!(values(&whole), alone);
        for stop_before in [1, 5, 6, 11] {
            let (resumed, again) = trained(&[0, 1], settings, Some(stop_before));
            assert_eq!(values(&resumed), values(&whole), "stopped before step {stop_before}");
            assert_eq!(seen, again, "each evaluation takes place once");
        }
    }
    let plain =
        trained(&[0, 1], TrainSettings { gradient_clipping: Some(1.0), ..TrainSettings::default() }, None);
    assert_ne!(values(&plain.0), values(&trained(&[0, 1], averaged, None).0));
}
