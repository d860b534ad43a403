//! `--on slurm` of `san run`, and the cluster part of `san status`.

use std::path::Path;

use anyhow::Result;
use runner::io::files::create_folder;
use runner::plan::Plan;
use runner::slurm::{self, Resources, Submission};
use runner::store::Store;

use super::output;
use crate::commands::run;

/// Where to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// On this machine.
    Here,
    /// As job arrays.
    Slurm,
}

/// Options of a run on a cluster.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "On a cluster")]
pub(super) struct Cluster {
    /// Run on this machine, or as Slurm's job arrays.
    #[arg(long, value_enum, default_value = "here")]
    on: Target,
    /// Print the scripts and submit nothing.
    #[arg(long, requires = "on")]
    dry_run: bool,
    /// Runs, or groups of runs, that one task runs, one after the other.
    #[arg(long, default_value_t = 1)]
    chunk: usize,
    /// Time of a task, as Slurm writes it.
    #[arg(long, default_value = "01:00:00")]
    time: String,
    /// Warn a task this many seconds before its end; it saves and is queued again.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    warning: u32,
    /// Slurm's partition.
    #[arg(long)]
    partition: Option<String>,
    /// Generic resources of a task, as gpu:1.
    #[arg(long)]
    gres: Option<String>,
    /// A further option of sbatch, as it is; may be given again.
    #[arg(long = "sbatch", value_name = "OPTION", allow_hyphen_values = true)]
    further: Vec<String>,
}

impl Cluster {
    pub(super) fn is_selected(&self) -> bool {
        self.on == Target::Slurm
    }

    fn resources(&self, memory: Option<u64>) -> Resources {
        Resources {
            partition: self.partition.clone(),
            gres: self.gres.clone(),
            time: self.time.clone(),
            memory: memory.map(|bytes| bytes.div_ceil(1 << 20)),
            warning: self.warning,
            further: self.further.clone(),
        }
    }
}

/// Submits the runs that are not done, or prints the scripts.
pub(super) fn submit(arguments: &run::Arguments, plan: &Plan, store: &Store) -> Result<()> {
    let on_gpu = arguments.slurm.gres.as_ref().is_some_and(|gres| gres.contains("gpu"));
    let size = arguments.group_size();
    let mut submission = Submission::new(plan, store, size, on_gpu, arguments.slurm.chunk)?;
    submission.results = std::path::absolute(&arguments.results)?;
    submission.device.clone_from(&arguments.device);
    submission.threads = arguments.threads.unwrap_or(1).max(1);
    submission.checkpoint_every = arguments.checkpoint_every;
    let resources = arguments.slurm.resources(arguments.memory);
    let program = std::env::current_exe()?;
    if arguments.slurm.dry_run {
        return print(&submission, &program, &resources);
    }
    output::line(format_args!("{}", plan.summary(store, 1)))?;
    create_folder(&store.folder)?;
    for job in submission.submit(&program, &resources)? {
        output::line(format_args!("job {}: {}, tasks: {}", job.id, job.part.name(), job.tasks))?;
    }
    output::line(format_args!("san status shows their progress"))
}

fn print(submission: &Submission, program: &Path, resources: &Resources) -> Result<()> {
    let limit = slurm::queue::array_size().ok().flatten().unwrap_or(slurm::USUAL_ARRAY_SIZE);
    for (_, _, text) in submission.scripts(&submission.folder()?, program, resources, limit) {
        output::line(format_args!("{text}"))?;
    }
    Ok(())
}

/// Prints the state of a store's jobs.
pub(super) fn status(store: &Store) -> Result<()> {
    let jobs = slurm::jobs(store);
    if jobs.is_empty() {
        return Ok(());
    }
    let ids = jobs.iter().map(|job| job.id.to_string()).collect::<Vec<_>>().join(", ");
    let said = match slurm::queue::states(&jobs) {
        Ok(Some(states)) if states.is_empty() => "none of them is known to Slurm any more".into(),
        Ok(Some(states)) => {
            let counts = states.iter().map(|(state, count)| format!("{count} {}", state.to_lowercase()));
            counts.collect::<Vec<_>>().join(", ")
        }
        Ok(None) => "squeue was not found".into(),
        // The files are authoritative; what Slurm reports is additional.
        Err(error) => error.to_string(),
    };
    output::line(format_args!("jobs {ids}: {said}"))
}
