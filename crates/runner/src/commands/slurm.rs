//! `--on slurm` of `san run`, and the cluster part of `san status`.

use std::path::Path;

use anyhow::Result;
use runner::error::RunError;
use runner::io::files::create_folder;
use runner::messages::{counted, message};
use runner::plan::Plan;
use runner::plan::device_memory::DeviceMemory;
use runner::plan::time::{PlanTime, Workers};
use runner::resources::Resources as OpenResources;
use runner::slurm::{self, Resources, Submission, request};
use runner::store::Store;
use runner::workers::memory::Need;

use super::output;
use crate::commands::run;

/// Threads of a task with a GPU, which decode its images.
const THREADS_PER_GPU: u32 = 8;

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
    /// Groups of runs that one task runs, one after the other.
    #[arg(long, default_value_t = 1)]
    chunk: usize,
    /// Time of a task, as Slurm writes it; by default twice what finished runs suggest or, before the first, what `san
    /// plan` estimates.
    #[arg(long)]
    time: Option<String>,
    /// Warn a task this many seconds before its end; it saves and is queued again.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    warning: u32,
    /// Slurm's partition.
    #[arg(long)]
    partition: Option<String>,
    /// Generic resources of a task, as gpu:h100:1; gpu:1 with --device cuda. A task uses one GPU.
    #[arg(long)]
    gres: Option<String>,
    /// Memory of one of the cluster's GPUs: what does not fit into it is not submitted.
    #[arg(long, value_name = "SIZE", default_value = "80GB", value_parser = runner::workers::memory::parse)]
    gpu_memory: u64,
    /// A further option of sbatch, as it is; may be given again.
    #[arg(long = "sbatch", value_name = "OPTION", allow_hyphen_values = true)]
    further: Vec<String>,
}

impl Cluster {
    pub(super) fn is_selected(&self) -> bool {
        self.on == Target::Slurm
    }

    /// Whether tasks compute on GPUs; `device` is that of the command line.
    pub(super) fn is_on_gpu(&self, device: &str) -> bool {
        match device {
            "auto" => self.requests_gpu(),
            device => device != "cpu",
        }
    }

    /// The memory that a task may use: of a GPU as `--gpu-memory` says, or what a task requests on processors.
    pub(super) fn device_memory(&self, device: &str, requested: Option<u64>) -> DeviceMemory {
        if self.is_on_gpu(device) {
            return DeviceMemory::of_gpu(Some(self.gpu_memory), "a GPU of the cluster has (--gpu-memory)");
        }
        DeviceMemory::of_processors(requested, None)
    }

    fn requests_gpu(&self) -> bool {
        self.gres.as_ref().is_some_and(|gres| request::gpus(gres) > 0)
            || self.passes("--gpus")
            || self.passes("--gres=gpu")
    }

    /// Whether an option of sbatch that begins so is passed as it is.
    fn passes(&self, option: &str) -> bool {
        self.further.iter().any(|further| further.starts_with(option))
    }

    /// `--gres`, with one GPU if the tasks need it and no option requests it.
    fn gres(&self, on_gpu: bool) -> Result<Option<String>> {
        if let Some(gres) = self.gres.as_ref().filter(|gres| request::gpus(gres) > 1) {
            let reason =
                format!("--gres {gres}: a task uses one GPU; the groups of runs are spread over tasks");
            return Err(RunError::CommandLine { reason }.into());
        }
        let missing = (on_gpu && !self.requests_gpu()).then(|| "gpu:1".to_owned());
        let all: Vec<String> = self.gres.iter().cloned().chain(missing).collect();
        Ok((!all.is_empty()).then(|| all.join(",")))
    }

    /// `--time`, and why in words if the user has not said.
    fn time(
        &self,
        submission: &Submission,
        plan: &Plan,
        workers: &Workers,
        open: &mut OpenResources,
    ) -> (Option<String>, String) {
        if self.time.is_some() || self.passes("--time") {
            return (self.time.clone(), String::new());
        }
        let Some((longest, is_finished)) = submission.longest_task(plan, workers, open) else {
            let words = ", the partition's default time, since nothing suggests one (--time sets it)";
            return (None, words.into());
        };
        let (time, factor) = (request::time(longest), request::TIME_FACTOR);
        let source = if is_finished {
            "what finished runs suggest".to_owned()
        } else {
            format!("an estimate before the first finished run: {}", workers.costs.device.source)
        };
        (Some(time.clone()), format!(", --time={time} ({factor} times {source})"))
    }

    /// The model of a task's GPU, as `--gres gpu:h100:1` names it.
    pub(super) fn gpu_model(&self) -> Option<&str> {
        self.gres.as_deref().and_then(request::gpu_model)
    }
}

/// `--mem` in MiB, and why in words if the user has not said.
fn memory(
    arguments: &run::Arguments,
    submission: &Submission,
    plan: &Plan,
    on_gpu: bool,
) -> (Option<u64>, String) {
    if arguments.memory.is_some() || arguments.slurm.passes("--mem") {
        return (arguments.memory.map(|bytes| bytes.div_ceil(1 << 20)), String::new());
    }
    let store = Store { folder: submission.store.clone() };
    let finals = submission.finals.iter().map(|one| &one.run);
    let need = Need::of(submission.tune.iter().chain(finals), &store, on_gpu);
    let (bytes, source) = need.with_reserve(plan.most_parameters(), request::MEMORY_FACTOR);
    let memory = request::memory(bytes);
    (Some(memory), format!(", --mem={memory}M ({source})"))
}

/// What each task requests, which is also printed.
fn requested(
    arguments: &run::Arguments,
    submission: &Submission,
    plan: &Plan,
    on_gpu: bool,
    open: &mut OpenResources,
) -> Result<Resources> {
    let cluster = &arguments.slurm;
    let gres = cluster.gres(on_gpu)?;
    let (memory, why_memory) = memory(arguments, submission, plan, on_gpu);
    let workers = arguments.cluster_workers(submission.threads, on_gpu)?;
    let (time, why_time) = cluster.time(submission, plan, &workers, open);
    let threads = counted(submission.threads as usize, "thread");
    let in_words: String = gres.iter().map(|gres| format!(", --gres={gres}")).collect();
    message(format_args!("san: each task has {threads}{in_words}{why_memory}{why_time}"));
    Ok(Resources {
        partition: cluster.partition.clone(),
        gres,
        time,
        memory,
        warning: cluster.warning,
        further: cluster.further.clone(),
    })
}

/// Submits the runs that are not done, or prints the scripts.
pub(super) fn submit(
    arguments: &run::Arguments,
    plan: &Plan,
    store: &Store,
    open: &mut OpenResources,
) -> Result<()> {
    if arguments.gpus.is_some() {
        let reason =
            "--gpus chooses among the GPUs of this machine; on Slurm a task gets one by --gres gpu:1";
        return Err(RunError::CommandLine { reason: reason.into() }.into());
    }
    let on_gpu = arguments.slurm.is_on_gpu(&arguments.device);
    let device = arguments.slurm.device_memory(&arguments.device, arguments.memory);
    let mut submission =
        Submission::new(plan, store, arguments.group_size(), &device, arguments.slurm.chunk)?;
    for line in &submission.left_out {
        message(format_args!("san: {line}"));
    }
    submission.results = std::path::absolute(&arguments.results)?;
    // A task that has a GPU and cannot use it ends, instead of computing on its processor.
    submission.device = if on_gpu { "cuda".into() } else { arguments.device.clone() };
    submission.threads = arguments.threads.unwrap_or(if on_gpu { THREADS_PER_GPU } else { 1 }).max(1);
    submission.checkpoint_every = arguments.checkpoint_every;
    submission.cache_features = arguments.cache_features.as_ref().map(std::path::absolute).transpose()?;
    let resources = requested(arguments, &submission, plan, on_gpu, open)?;
    let program = std::env::current_exe()?;
    if arguments.slurm.dry_run {
        return print(&submission, &program, &resources);
    }
    output::line(format_args!("{}", plan.summary(store, &PlanTime::default(), 1)))?;
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
