//! `san worker`: what the pool starts.

use std::io::stdout;

use anyhow::{Context as _, Result};
use runner::context::Context;
use runner::device;
use runner::plan::Store;
use runner::pool::Assignment;
use runner::signals::StopFlag;
use runner::worker::Worker;

pub(crate) fn worker() -> Result<()> {
    let stop = StopFlag::install()?;
    let assignment: Assignment =
        serde_json::from_reader(std::io::stdin()).context("reading the assignment of a worker")?;
    tch::set_num_threads(i32::try_from(assignment.threads)?);
    let mut context = Context::new(device::resolve(&assignment.device)?);
    let store = Store { folder: assignment.folder };
    let Assignment { cells, threads, checkpoint_every, .. } = assignment;
    Worker::new(&store, &mut context, threads, checkpoint_every, &stop).work(&cells, &mut stdout())
}
