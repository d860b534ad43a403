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

/// Durations in seconds of the runs that were read, by kind.
type Kinds<'a> = BTreeMap<(&'a str, &'a str), Vec<f64>>;

/// The time that `workers` workers need for the runs that are not done; `None` if no run on their backbones is done.
///
/// `runs` pairs each run with whether it is done. A method without finished runs is assumed to take the mean of the
/// others.
pub(crate) fn time_left(runs: &[(&Run, bool)], store: &Store, workers: u32) -> Option<Duration> {
    let mut kinds = Kinds::new();
    for (run, _) in runs.iter().filter(|(_, done)| *done) {
        let seconds = kinds.entry((&run.backbone, &run.method)).or_default();
        if seconds.len() < READ {
            seconds.extend(seconds_of(run, store));
        }
    }
    let left = runs.iter().filter(|(_, done)| !done);
    let seconds: f64 = left.map(|(run, _)| expected(run, &kinds)).sum::<Option<f64>>()?;
    Duration::try_from_secs_f64(seconds / f64::from(workers.max(1))).ok()
}

fn seconds_of(run: &Run, store: &Store) -> Option<f64> {
    let cost = Record::read(&store.run(&run.name().ok()?).join(RECORD_FILE)).ok()?.cost;
    Some(cost.train_seconds + cost.evaluate_seconds + cost.data_seconds)
}

fn expected(run: &Run, kinds: &Kinds<'_>) -> Option<f64> {
    let own = |(backbone, method): &(&str, &str)| *backbone == run.backbone && *method == run.method;
    let like = |(backbone, _): &(&str, &str)| *backbone == run.backbone;
    mean(kinds, own).or_else(|| mean(kinds, like))
}

fn mean(kinds: &Kinds<'_>, counts: impl Fn(&(&str, &str)) -> bool) -> Option<f64> {
    let all: Vec<f64> =
        kinds.iter().filter(|(kind, _)| counts(kind)).flat_map(|(_, all)| all.clone()).collect();
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}
