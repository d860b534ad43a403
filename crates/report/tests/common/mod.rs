//! Handwritten records, and folders of them.
#![allow(dead_code)] // each test binary uses a part of it

use std::path::{Path, PathBuf};

use report::load::Stored;
use report::record::*;
use serde_json::json;

/// Three sets in two groups: `a` and `b` are natural, `c` is structured.
pub(crate) const SETS: [(&str, &str); 3] =
    [("mini/a", "natural"), ("mini/b", "natural"), ("mini/c", "structured")];

/// Name, label and trainable parameters without the head.
pub(crate) const METHODS: [(&str, &str, u64); 4] = [
    ("linear", "linear", 0),
    ("fft", "FFT", 100_000),
    ("lora", "LoRA (r 4)", 6_144),
    ("san", "SAN (authors)", 1_920),
];

/// A finished record; `accuracy` in percent, `None` for a diverged run.
pub(crate) fn record(
    method: (&str, &str, u64),
    set: usize,
    sets: &[(&str, &str)],
    seed: u64,
    accuracy: Option<f64>,
) -> Record {
    let (dataset, group) = sets[set];
    Record {
        schema: SCHEMA,
        run: format!("{}-{dataset}-{seed}", method.0),
        experiment: "vtab".into(),
        suite: "vtab".into(),
        profile: "embedded".into(),
        stage: Stage::Final,
        state: if accuracy.is_some() { State::Finished } else { State::Diverged },
        dataset: Dataset {
            name: dataset.into(),
            group: group.into(),
            order: set as u32,
            classes: 10,
            train: 1000,
            test: 500,
            checksum: "d".into(),
            source: None,
        },
        backbone: Backbone { name: "vit_micro".into(), checksum: "b".into() },
        method: Method {
            name: method.0.into(),
            label: method.1.into(),
            config: json!({}),
            position: METHODS.iter().position(|other| other.0 == method.0).map(|place| place as u32),
            published_as: Vec::new(),
        },
        seed,
        protocol: json!({"epochs": 10, "optimiser": {"name": "adamw", "learning_rate": 0.001 * (set + 1) as f64}}),
        parameters: Parameters { backbone: 100_000, trainable: method.2, head: 650 + 10 * set as u64 },
        metrics: Metrics {
            accuracy: accuracy.map(|accuracy| accuracy / 100.0),
            metric: "top-1 accuracy".into(),
            train_loss: Some(0.5),
            merge_difference: None,
            loss_history: vec![1.0, 0.5],
            steps: 160,
            selected: None,
            test_selected: None,
            no_answer: None,
            forgetting: None,
            truncation: None,
            evaluations: Vec::new(),
            pending: Vec::new(),
        },
        cost: Cost {
            group_size: 1,
            micro_batch_size: None,
            gradient_checkpointing: false,
            train_seconds: 2.0 + seed as f64,
            evaluate_seconds: 0.5,
            data_seconds: 0.1,
            peak_memory: Some((100 + set as u64) << 20),
            host_memory: None,
            adapter_bytes: 4096,
        },
        provenance: Provenance {
            commit: "0123456789abcdef".into(),
            dirty: false,
            version: "0.1.0".into(),
            libtorch: "2.11.0".into(),
            device: "cpu".into(),
            device_uuid: None,
            threads: 2,
            finished_at: 1,
        },
        files: std::collections::BTreeMap::new(),
        checksum: None,
    }
}

/// A record with its own path.
pub(crate) fn stored(record: Record) -> Stored {
    Stored { path: PathBuf::from(format!("runs/{}/record.json", record.run)), record, is_part: false }
}

/// Four methods on three sets with two seeds. SAN diverged on `mini/c` with seed 1; FFT has no
/// record for `mini/b`.
///
/// | | a | b | c |
/// |---|---|---|---|
/// | linear | 50, 52 | 60, 62 | 20, 22 |
/// | LoRA | 70, 74 | 80, 80 | 43, 44 |
/// | SAN | 72, 73 | 79, 81 | 40, - |
/// | FFT | 60, 60 | | 30, 34 |
pub(crate) fn records() -> Vec<Stored> {
    let [linear, fft, lora, san] = METHODS;
    let table = [
        (linear, [Some([50.0, 52.0]), Some([60.0, 62.0]), Some([20.0, 22.0])]),
        (fft, [Some([60.0, 60.0]), None, Some([30.0, 34.0])]),
        (lora, [Some([70.0, 74.0]), Some([80.0, 80.0]), Some([43.0, 44.0])]),
        (san, [Some([72.0, 73.0]), Some([79.0, 81.0]), Some([40.0, f64::NAN])]),
    ];
    let mut records = Vec::new();
    for (method, row) in table {
        for (set, seeds) in row.into_iter().enumerate() {
            for (seed, accuracy) in seeds.into_iter().flatten().enumerate() {
                let accuracy = (!accuracy.is_nan()).then_some(accuracy);
                records.push(stored(record(method, set, &SETS, seed as u64, accuracy)));
            }
        }
    }
    records
}

/// Writes `record.json` into `<folder>/<run>` and returns its path.
pub(crate) fn write(folder: &Path, record: &Record) -> PathBuf {
    let run = folder.join(record.run.replace('/', "_"));
    std::fs::create_dir_all(&run).unwrap();
    let path = run.join(RECORD_FILE);
    std::fs::write(&path, serde_json::to_vec(record).unwrap()).unwrap();
    path
}
