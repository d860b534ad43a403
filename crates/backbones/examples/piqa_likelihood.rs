//! PIQA by log-likelihood: which of the two solutions a language model finds more likely after the goal,
//! prompted as in lm-evaluation-harness ("Question: <goal>\nAnswer: <solution>").
//!
//! `piqa_likelihood <weights> <piqa/test.json> <rows>` prints the accuracy by summed log-probability, and by
//! that sum per byte. It parses an instruction format, so it also prints how many rows were parsed.

use std::error::Error;
use std::path::Path;

use backbones::language::generate::{Continuation, likelihoods};
use backbones::tokenizer::Tokenizer;
use backbones::weights::{self, Target};
use san_core::AdapterSet;
use san_core::nn::builder::ModelBuilder;
use serde_json::Value;
use tch::Device;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, rows, count] = &arguments[..] else {
        return Err("usage: piqa_likelihood <weights> <piqa/test.json> <rows>".into());
    };
    let path = Path::new(weights);
    let read = weights::language(path, Target::default())?;
    let tokenizer = Tokenizer::read(path)?;
    let adapters = AdapterSet::default();
    let model = read.architecture.build(&ModelBuilder::new(&read.weights, &adapters))?;
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(rows)?)?;
    let (mut read_rows, mut by_sum, mut by_byte) = (0, 0, 0);
    for row in rows.iter().take(count.parse()?) {
        let Some((goal, solutions)) = parts(row) else { continue };
        let prompt: Vec<i64> =
            tokenizer.encode(&format!("Question: {goal}\nAnswer:"))?.into_iter().map(i64::from).collect();
        let mut continuations = Vec::new();
        for solution in solutions {
            let text = tokenizer
                .encode_without_special_tokens(&format!(" {solution}"))?
                .into_iter()
                .map(i64::from)
                .collect();
            continuations.push(Continuation { prompt: prompt.clone(), text });
        }
        let sums = likelihoods(&*model, &continuations, Device::Cpu)?;
        let right = usize::from(row["answer"] == "solution2");
        let per_byte = [0, 1].map(|index: usize| sums[index] / solutions[index].len() as f64);
        read_rows += 1;
        by_sum += usize::from(sums[right] > sums[1 - right]);
        by_byte += usize::from(per_byte[right] > per_byte[1 - right]);
    }
    let share = |right: usize| 100.0 * right as f64 / read_rows as f64;
    println!(
        "n = {read_rows}: {:.1} % by the sum of log-probabilities, {:.1} % by that sum per byte",
        share(by_sum),
        share(by_byte)
    );
    Ok(())
}

/// Goal and solutions of a row in LLM-Adapters' format.
fn parts(row: &Value) -> Option<(&str, [&str; 2])> {
    let text = row["instruction"].as_str()?;
    let text = text.strip_prefix("Please choose the correct solution to the question:")?;
    let (goal, rest) = text.split_once("Solution1:")?;
    let (first, rest) = rest.split_once("Solution2:")?;
    let (second, _) = rest.split_once("Answer format:")?;
    Some((goal.trim(), [first.trim(), second.trim()]))
}
