//! `san worker`: the process that the pool starts.

use std::io::stdout;
use std::time::Duration;

use anyhow::{Context as _, Result};
use runner::resources::Resources;
use runner::store::Store;
use runner::tasks::RunGroup;
use runner::train::signals::{StopFlag, WORKER_DEADLINE};
use runner::workers::device;
use runner::workers::pool::{AssignedGroup, Assignment};
use runner::workers::worker::{Message, Settings, Worker, send};

/// How often a worker sends a heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn worker() -> Result<()> {
    let stop = StopFlag::install(WORKER_DEADLINE)?;
    // Started first, so that the pool notices if anything after it hangs.
    beat(&stop);
    let assignment: Assignment =
        serde_json::from_reader(std::io::stdin()).context("reading the assignment of a worker")?;
    tch::set_num_threads(i32::try_from(assignment.threads)?);
    let device = device::resolve(&assignment.device)?;
    let mut resources = Resources::new(device)
        .keeping_file_hashes(&assignment.results)
        .caching_features(assignment.cache_features);
    let store = Store { folder: assignment.folder };
    let Assignment { groups, threads, checkpoint_every, .. } = assignment;
    let groups: Vec<RunGroup> = groups.into_iter().map(AssignedGroup::into_group).collect::<Result<_>>()?;
    let settings = Settings { threads, checkpoint_every, wait_for_others: true };
    Worker::new(&store, &mut resources, settings, &stop).work(&groups, &mut stdout())
}

/// Sends heartbeats with the number of loop iterations from a separate thread; this also detects that the pool has
/// gone.
fn beat(stop: &StopFlag) {
    let stop = stop.clone();
    std::thread::spawn(move || {
        while send(&mut stdout(), &Message::Heartbeat { checks: stop.checks() }).is_ok() {
            std::thread::sleep(HEARTBEAT_INTERVAL);
        }
        stop.set();
    });
}
