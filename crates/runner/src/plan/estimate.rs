//! Estimates how long the remaining runs will take from runs of the same kind in the same store.
//!
//! A kind is a backbone with a method: the cost of a step depends on little else within a profile. There is no estimate
//! before the first run, because one from another machine would be off by an order of magnitude.

use std::collections::BTreeMap;
use std::time::Duration;

use report::record::{RECORD_FILE, Record};

use crate::store::Store;
use crate::tasks::Run;

/// Number of records that are read for each kind; a plan of 20,000 runs should print immediately.
const READ: usize = 4;

/// Durations of finished runs, in seconds, by kind.
#[derive(Debug)]
pub struct Durations<'a>(BTreeMap<(&'a str, &'a str), Vec<f64>>);

impl<'a> Durations<'a> {
    /// Reads the durations of some of these runs, which are done.
    pub fn of(done: impl Iterator<Item = &'a Run>, store: &Store) -> Self {
        let mut kinds: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
        for run in done {
            let seconds = kinds.entry((&run.backbone, &run.method)).or_default();
            if seconds.len() < READ {
                seconds.extend(seconds_of(run, store));
            }
        }
        Self(kinds)
    }

    /// The duration of a run in seconds: the mean of its kind, or of its backbone if no run of its method is done; `None`
    /// if none of its backbone is.
    pub fn expected(&self, run: &Run) -> Option<f64> {
        let own = |(backbone, method): &(&str, &str)| *backbone == run.backbone && *method == run.method;
        let like = |(backbone, _): &(&str, &str)| *backbone == run.backbone;
        self.mean(own).or_else(|| self.mean(like))
    }

    fn mean(&self, counts: impl Fn(&(&str, &str)) -> bool) -> Option<f64> {
        let all = self.0.iter().filter(|(kind, _)| counts(kind));
        let all: Vec<f64> = all.flat_map(|(_, all)| all.clone()).collect();
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    }
}

/// The time that `workers` workers need for the runs that are not done; `None` if no run on their backbones is done.
///
/// `runs` pairs each run with whether it is done.
pub(crate) fn time_left(runs: &[(&Run, bool)], store: &Store, workers: u32) -> Option<Duration> {
    let durations = Durations::of(runs.iter().filter(|(_, done)| *done).map(|(run, _)| *run), store);
    let left = runs.iter().filter(|(_, done)| !done);
    let seconds: f64 = left.map(|(run, _)| durations.expected(run)).sum::<Option<f64>>()?;
    Duration::try_from_secs_f64(seconds / f64::from(workers.max(1))).ok()
}

fn seconds_of(run: &Run, store: &Store) -> Option<f64> {
    let cost = Record::read(&store.run(&run.name().ok()?).join(RECORD_FILE)).ok()?.cost;
    Some(cost.train_seconds + cost.evaluate_seconds + cost.data_seconds)
}
