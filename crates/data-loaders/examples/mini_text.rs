//! Writes the generated language as JSON lines, for `tools/micro_tokenizer.py` and for inspecting the tasks.
//!
//! `cargo run -p data-loaders --example mini_text -- passages <first> <count>` writes strings;
//! `... -- rows <set> <train|test> <count>` writes `{"prompt", "training", "answer"}`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a tool for the repository itself")]

use std::io::{BufWriter, Write, stdout};

use data_loaders::TextStream;
use data_loaders::text::{TextSet, evaluation_prompt, training_text};
use data_loaders::{Split, SplitCounts, dataset};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut out = BufWriter::new(stdout().lock());
    match words[..] {
        ["passages", first, count] => {
            let (first, count): (u64, u64) = (first.parse().unwrap(), count.parse().unwrap());
            let stream = TextStream::new(0);
            for index in first..first + count {
                writeln!(out, "{}", serde_json::json!(stream.passage(index))).unwrap();
            }
        }
        ["rows", set, split, count] => {
            let count = count.parse().unwrap();
            let counts = SplitCounts { train: count, val: 0, test: count };
            let set = TextSet::draw(dataset(set).unwrap(), counts).unwrap();
            let split = if split == "test" { Split::Test } else { Split::Train };
            for row in set.rows(split) {
                let line = serde_json::json!({
                    "prompt": evaluation_prompt(row),
                    "training": training_text(row),
                    "answer": row.answer,
                });
                writeln!(out, "{line}").unwrap();
            }
        }
        _ => eprintln!("usage: mini_text passages <first> <count> | rows <set> <train|test> <count>"),
    }
}
