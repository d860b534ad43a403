//! The durations of finished runs in the store: what an estimate of the remaining time is based on first.
//!
//! A kind is a backbone with a method: the cost of a step depends on little else within a profile.

use std::collections::BTreeMap;

use report::record::{Cost, RECORD_FILE, Record};

use crate::store::Store;
use crate::tasks::Run;

/// Number of records that are read for each kind; a plan of 20,000 runs should print immediately.
const READ: usize = 4;

/// Durations of finished runs, in seconds, by kind.
#[derive(Debug)]
pub struct Durations<'a>(BTreeMap<(&'a str, &'a str), Vec<f64>>);

impl<'a> Durations<'a> {
    /// Reads the durations of some of these runs, which are done, as far as they were computed on the device that is named
    /// so.
    pub fn of(done: impl Iterator<Item = &'a Run>, store: &Store, device: &str) -> Self {
        let mut kinds: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
        for run in done {
            let seconds = kinds.entry((&run.backbone, &run.method)).or_default();
            if seconds.len() < READ {
                seconds.extend(seconds_of(run, store, device));
            }
        }
        Self(kinds)
    }

    /// The mean duration of the runs of a run's kind, in seconds; `None` if none is done.
    pub fn of_kind(&self, run: &Run) -> Option<f64> {
        self.mean(|(backbone, method)| *backbone == run.backbone && *method == run.method)
    }

    /// The same of all runs on a run's backbone.
    pub fn of_backbone(&self, run: &Run) -> Option<f64> {
        self.mean(|(backbone, _)| *backbone == run.backbone)
    }

    fn mean(&self, counts: impl Fn(&(&str, &str)) -> bool) -> Option<f64> {
        let all = self.0.iter().filter(|(kind, _)| counts(kind));
        let all: Vec<f64> = all.flat_map(|(_, all)| all.clone()).collect();
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    }
}

fn seconds_of(run: &Run, store: &Store, device: &str) -> Option<f64> {
    let record = Record::read(&store.run(&run.name().ok()?).join(RECORD_FILE)).ok()?;
    let Cost { train_seconds, evaluate_seconds, data_seconds, .. } = record.cost;
    record.provenance.device.contains(device).then_some(train_seconds + evaluate_seconds + data_seconds)
}
