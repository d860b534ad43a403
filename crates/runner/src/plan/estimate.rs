//! How long the runs to come will take, told from those of their kind that were run in the same store.
//!
//! A kind is a backbone with a method: what a step costs depends on little else within a profile. Nothing is guessed
//! before anything was run, for a guess from another machine would be off by an order.

use std::collections::BTreeMap;
use std::time::Duration;

use report::record::{RECORD_FILE, Record};

use crate::store::Store;
use crate::tasks::Run;

/// Records that are read of each kind; a plan of 20,000 runs is to be printed at once.
const READ: usize = 4;

/// Seconds of the runs of each kind that were read.
type Kinds<'a> = BTreeMap<(&'a str, &'a str), Vec<f64>>;

/// The time of the runs that are not done, by so many workers; none where nothing of their backbones is done.
///
/// `runs` says of each whether it is done. A method that no run was run of takes the mean of the others.
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
