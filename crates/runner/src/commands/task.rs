//! `san task`: what one task of a Slurm job array runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use runner::plan::fitting::LeftOut;
use runner::plan::run_plan;
use runner::plan::tuning;
use runner::resources::Resources;
use runner::slurm::{Part, Submission};
use runner::store::Store;
use runner::store::failure;
use runner::train::signals::{StopFlag, WORKER_DEADLINE};
use runner::workers::device;
use runner::workers::worker::{Settings, Worker};

use super::output;

/// Options of `san task`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the submission.
    submission: PathBuf,
    /// Which part of it.
    #[arg(long, value_enum)]
    part: Part,
    /// Which task of the part.
    #[arg(long)]
    index: usize,
}

pub(crate) fn task(arguments: &Arguments) -> Result<()> {
    let stop = StopFlag::install(WORKER_DEADLINE)?;
    let submission = Submission::read(&arguments.submission)?;
    let store = Store { folder: submission.store.clone() };
    if arguments.part == Part::Table {
        return table(&submission, &store);
    }
    let groups = submission.groups(arguments.part, arguments.index)?;
    for (run, name) in groups.iter().flat_map(|group| group.runs().iter().zip(group.names())) {
        failure::clear(&store, name)?;
        output::line(format_args!("run {name}: {}", run.label()))?;
    }
    tch::set_num_threads(i32::try_from(submission.threads)?);
    let mut resources = Resources::new(device::resolve(&submission.device)?)
        .keeping_file_hashes(&submission.results)
        .caching_features(submission.cache_features.clone());
    let settings = Settings {
        threads: submission.threads,
        checkpoint_every: Duration::try_from_secs_f64(submission.checkpoint_every)?,
        wait_for_others: false,
    };
    Worker::new(&store, &mut resources, settings, &stop).work(&groups, &mut std::io::sink())
}

/// Writes which runs make up the table, and prints it.
fn table(submission: &Submission, store: &Store) -> Result<()> {
    let chosen = tuning::choose_all(&submission.tune, &submission.finals, store)?;
    let mut left_out = Vec::new();
    for run in chosen.all() {
        let (method, backbone) = (run.row_label()?, run.backbone_label());
        let is_this = |one: &&LeftOut| (&one.method, &one.backbone) == (&method, &backbone);
        left_out.extend(submission.left_out.iter().find(is_this).map(|one| (run, one.reason.clone())));
    }
    run_plan(&submission.settings, &chosen.all(), &left_out)?.add_to(&store.folder)?;
    let results: &Path = &submission.results;
    crate::commands::report::compare(results, &submission.experiment, Some(&submission.profile))
}
