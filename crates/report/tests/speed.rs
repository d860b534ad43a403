//! Time and memory from 20,000 records to tables and figures: `cargo nextest run -p report --test speed --run-ignored
//! all --no-capture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{record, write};
use report::{Request, compare, draw_figures, write_tables};

const SETS: usize = 20;
const METHODS: usize = 20;
const SEEDS: u64 = 50;
const ITEMS: usize = 300;

/// Peak memory of this process in bytes, as reported by Linux.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

#[test]
#[ignore = "a minute of writing small files; run by name"]
fn twenty_thousand_records_become_tables_and_figures_in_ten_seconds_and_a_gigabyte() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..SETS).map(|set| format!("mini/set_{set}")).collect();
    let group = |set: usize| ["natural", "specialized", "structured"][set % 3];
    let mut sets: Vec<(&str, &str)> =
        names.iter().enumerate().map(|(set, name)| (name.as_str(), group(set))).collect();
    sets.sort_by_key(|(_, group)| *group);
    for method in 0..METHODS {
        let name = ["linear", "lora", "san", "other"][method.min(3)];
        let label = format!("method {method}");
        for (set, seed) in (0..SETS).flat_map(|set| (0..SEEDS).map(move |seed| (set, seed))) {
            let accuracy =
                40.0 + method as f64 + set as f64 / 2.0 + ((seed * 7 + set as u64) % 11) as f64 / 10.0;
            let mut record = record((name, &label, 1_000 << (method / 2)), set, &sets, seed, Some(accuracy));
            // The score does not follow from these answers.
            record.metrics.metric = String::new();
            record.run = format!("{method}-{set}-{seed}");
            record.metrics.loss_history = (0..20).map(|epoch| 1.0 / (1.0 + f64::from(epoch))).collect();
            let path = write(folder.path(), &record);
            let right = |item: usize| (item * 31 + method * 17 + set) % 100 < accuracy as usize;
            let rows = (0..ITEMS).map(|item| format!("{item},1,{}\n", u8::from(right(item))));
            let text: String = std::iter::once("index,label,predicted\n".to_owned()).chain(rows).collect();
            std::fs::write(path.with_file_name("predictions.csv"), text).unwrap();
        }
    }
    let request = Request {
        runs: folder.path().into(),
        experiment: "vtab".into(),
        profile: "embedded".into(),
        backbone: None,
        all_runs: false,
        filter: None,
    };
    let start = Instant::now();
    let comparison = compare(&request).unwrap().remove(0);
    let compared = start.elapsed();
    write_tables(&comparison, &folder.path().join("tables")).unwrap();
    let written = start.elapsed();
    draw_figures(&comparison, &folder.path().join("figures")).unwrap();
    let all = start.elapsed();
    let peak = peak_memory();
    eprintln!(
        "compared after {compared:?}, tables after {written:?}, figures after {all:?}, peak memory {peak:?}"
    );
    assert!(all < Duration::from_secs(10), "{all:?}");
    assert!(peak.is_none_or(|peak| peak <= 1 << 30), "{peak:?} bytes");
}
