//! Greedy generation speed: `generation_speed FOLDER BATCH PROMPT NEW THREADS [bf16]` prints tokens per second.
//! tools/generation_speed.py calls it and does the same with transformers.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use backbones::language::generate::{Decoding, Limits, Prompts, generate};
use backbones::weights::{Target, language};
use san_core::AdapterSet;
use san_core::nn::builder::ModelBuilder;
use tch::{Device, Kind};

/// Timed passes, of which the fastest counts; one more before them warms up.
const PASSES: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments[index].parse::<i64>().unwrap();
    let (batch, length, max_new_tokens) = (number(1), number(2), number(3));
    tch::set_num_threads(i32::try_from(number(4)).unwrap());
    let kind = if arguments.get(5).is_some_and(|kind| kind == "bf16") { Kind::BFloat16 } else { Kind::Float };
    let read = language(arguments[0].as_ref(), Target { kind, device: Device::Cpu }).unwrap();
    let model = read.architecture.build(&ModelBuilder::new(&read.weights, &AdapterSet::default())).unwrap();
    // The same prompts as in the script; there is no end token, so all have the same length.
    let prompt = |row: i64| (0..length).map(|column| 100 + (7 * column + 13 * row) % 400).collect();
    let prompts: Vec<Vec<i64>> = (0..batch).map(prompt).collect();
    let limits = Limits { end_tokens: Vec::new(), max_new_tokens };
    let mut best = f64::INFINITY;
    let mut answers = Vec::new();
    for _ in 0..=PASSES {
        let start = Instant::now();
        let prompts = Prompts::from_tokens(&*model, &prompts, Device::Cpu).unwrap();
        answers = generate(&*model, &prompts, Decoding::Greedy, &limits).unwrap();
        best = best.min(start.elapsed().as_secs_f64());
    }
    #[allow(clippy::cast_precision_loss)]
    let speed = (batch * max_new_tokens) as f64 / best;
    println!("{speed} {:?}", answers[0]);
}
