//! Runs a plan on a cluster: Slurm job arrays for the same runs, into the same store.
//!
//! A submission is a folder `.slurm/<number>/` in the store: the runs, one script per job array, and the logs. A task
//! of an array executes one group of runs, or several, as a worker does, on one GPU at most and under the same locks, so
//! that nothing runs twice, whatever else is running. Three stages depend on each other: `tune`, `final` and `table`. A
//! task that is warned of its time limit saves its state, exits as resumable and is requeued by its script.

pub mod queue;
pub mod request;
pub mod script;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::io::files::{create_folder, entries, file_name, write_atomically, write_json};
use crate::plan::Plan;
use crate::plan::device_memory::DeviceMemory;
use crate::plan::estimate::Durations;
use crate::plan::fitting::{LeftOut, Positions};
use crate::plan::time::{Estimator, Workers};
use crate::plan::tuning::{FinalRun, choose_all};
use crate::resources::Resources as OpenResources;
use crate::store::Store;
use crate::tasks::{Memory, Run, RunGroup};

pub use script::Resources;

/// Folder of the submissions in a store.
const FOLDER: &str = ".slurm";
/// The runs of a submission.
const CELLS: &str = "runs.json";
/// The jobs of a submission.
const JOBS: &str = "jobs.json";
/// Slurm's own default of `MaxArraySize`.
pub const USUAL_ARRAY_SIZE: usize = 1001;

/// A part of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Runs that choose settings.
    Tune,
    /// Runs of the table.
    Final,
    /// The table itself.
    Table,
}

impl Part {
    /// Its name in scripts and job names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tune => "tune",
            Self::Final => "final",
            Self::Table => "table",
        }
    }
}

/// The runs of a submission and how they are run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Submission {
    /// Folder of the store.
    pub store: PathBuf,
    /// Folder of the results.
    pub results: PathBuf,
    /// Name of the experiment.
    pub experiment: String,
    /// Name of the profile.
    pub profile: String,
    /// Data and protocol; see [`Plan::settings`].
    pub settings: serde_json::Value,
    /// Name of the device.
    pub device: String,
    /// Compute threads per task.
    pub threads: u32,
    /// Seconds between two checkpoints.
    pub checkpoint_every: f64,
    /// Folder of the files of picture features, if they are kept.
    #[serde(default)]
    pub cache_features: Option<PathBuf>,
    /// Groups of runs that a task executes, one after the other.
    pub chunk: usize,
    /// Runs of the tuning stage.
    pub tune: Vec<Run>,
    /// Runs of the final stage.
    pub finals: Vec<FinalRun>,
    /// Groups of runs of `tune`, by index, with one that is still to be run.
    pub open_tune: Vec<Vec<usize>>,
    /// The same for `finals`.
    pub open_finals: Vec<Vec<usize>>,
    /// How the steps of each group of `open_tune` are computed, if that was chosen for the device.
    #[serde(default)]
    pub tune_memory: Vec<Option<Memory>>,
    /// The same for `open_finals`.
    #[serde(default)]
    pub finals_memory: Vec<Option<Memory>>,
    /// What does not fit into the memory of a task and is left out.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// A submitted job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The part that it runs.
    pub part: Part,
    /// Slurm's job ID.
    pub id: u64,
    /// Number of tasks in its array.
    pub tasks: usize,
}

impl Submission {
    /// The runs of a plan that are not done and fit into the device, in groups of at most `size` runs, or of the usual
    /// number.
    ///
    /// # Errors
    /// When a record is corrupt.
    pub fn new(
        plan: &Plan,
        store: &Store,
        size: Option<usize>,
        device: &DeviceMemory,
        chunk: usize,
    ) -> Result<Self> {
        let groups = |runs: &[Run]| plan.group_positions(runs, size, device);
        let open = |runs: &[Run]| -> Result<Positions> {
            let mut open = groups(runs)?;
            let names: Vec<String> = runs.iter().map(Run::name).collect::<Result<_, _>>()?;
            open.retain(|(group, _)| group.iter().any(|&run| !store.is_done(&names[run])));
            Ok(open)
        };
        let finals: Vec<Run> = plan.finals.iter().map(|one| one.run.clone()).collect();
        let open_tune = open(&plan.tune)?;
        // Which final runs are done is known only once their settings are; how they are grouped is known before, since
        // the runs of a group select the same settings.
        let open_finals =
            if open_tune.is_empty() { open(&plan.final_runs(store)?.runs)? } else { groups(&finals)? };
        let (open_tune, tune_memory) = open_tune.into_iter().unzip();
        let (open_finals, finals_memory) = open_finals.into_iter().unzip();
        Ok(Self {
            store: std::path::absolute(&store.folder)?,
            results: PathBuf::new(),
            experiment: plan.experiment.clone(),
            profile: plan.profile.clone(),
            settings: plan.settings.clone(),
            device: "auto".into(),
            threads: 1,
            checkpoint_every: 60.0,
            cache_features: None,
            chunk: chunk.max(1),
            tune: plan.tune.clone(),
            finals: plan.finals.clone(),
            open_tune,
            open_finals,
            tune_memory,
            finals_memory,
            left_out: plan.left_out(&finals, size, device)?,
        })
    }

    /// Reads the runs of a submission's folder.
    ///
    /// # Errors
    /// When the file is missing or corrupt.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CELLS);
        let text = std::fs::read(&path).map_err(|error| RunError::Missing {
            what: format!("the submission {}", folder.display()),
            reason: error.to_string(),
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not a submission", path.display()))
    }

    /// Number of tasks of a part.
    fn tasks(&self, part: Part) -> usize {
        match part {
            Part::Tune => self.open_tune.len().div_ceil(self.chunk),
            Part::Final => self.open_finals.len().div_ceil(self.chunk),
            Part::Table => 1,
        }
    }

    /// How long the longest task trains and evaluates on a device, and whether finished runs suggest it; `None` if the
    /// time of a run is not known.
    pub fn longest_task(
        &self,
        plan: &Plan,
        workers: &Workers,
        resources: &mut OpenResources,
    ) -> Option<(Duration, bool)> {
        let store = Store { folder: self.store.clone() };
        let is_done = |run: &&Run| run.name().is_ok_and(|name| store.is_done(&name));
        let chosen =
            choose_all(&self.tune, &self.finals, &store).map_or_else(|_| Vec::new(), |chosen| chosen.runs);
        let done = self.tune.iter().chain(&chosen).filter(is_done);
        let durations = Durations::of(done, &store, &workers.costs.device.name);
        let mut estimator = Estimator::new(plan, workers, resources);
        let finals: Vec<&Run> = self.finals.iter().map(|one| &one.run).collect();
        let tune: Vec<&Run> = self.tune.iter().collect();
        let mut longest = (0.0_f64, false);
        for (open, runs) in [(&self.open_tune, &tune), (&self.open_finals, &finals)] {
            for task in open.chunks(self.chunk) {
                let groups = task.iter().map(|group| group.iter().map(|&run| runs[run].clone()).collect());
                let groups: Vec<Vec<Run>> = groups.collect();
                let (seconds, is_finished) = estimator.seconds(&groups, &durations)?;
                if seconds >= longest.0 {
                    longest = (seconds, is_finished);
                }
            }
        }
        let weights = estimator.most_weight_bytes();
        let start = workers.costs.device.process_start(weights);
        let longest = (longest.0 > 0.0).then_some((longest.0 + start, longest.1))?;
        Some((Duration::try_from_secs_f64(longest.0).ok()?, longest.1))
    }

    /// The groups of runs of one task of a part.
    ///
    /// # Errors
    /// When the part has no such task, or a record that a run's settings depend on is missing.
    pub fn groups(&self, part: Part, task: usize) -> Result<Vec<RunGroup>> {
        let store = Store { folder: self.store.clone() };
        let (open, memory) = match part {
            Part::Tune => (&self.open_tune, &self.tune_memory),
            Part::Final => (&self.open_finals, &self.finals_memory),
            Part::Table => return Ok(Vec::new()),
        };
        let tasks = self.tasks(part);
        let missing =
            || RunError::CommandLine { reason: format!("--index {task}: the part has {tasks} tasks") };
        let run = |index: &usize| match part {
            Part::Tune => Ok(self.tune[*index].clone()),
            _ => self.finals[*index].choose(&self.tune, &store),
        };
        let group = |(indices, position): (&Vec<usize>, usize)| {
            let memory = memory.get(position).copied().flatten();
            Ok(RunGroup::new(indices.iter().map(run).collect::<Result<_>>()?)?.with_memory(memory))
        };
        let of_task = open.chunks(self.chunk).nth(task).ok_or_else(missing)?;
        of_task.iter().zip(task * self.chunk..).map(group).collect()
    }

    /// The scripts in the order of submission: part, number of tasks, text. `limit` is the maximum array size.
    pub fn scripts(
        &self,
        folder: &Path,
        program: &Path,
        resources: &Resources,
        limit: usize,
    ) -> Vec<(Part, usize, String)> {
        let mut scripts = Vec::new();
        for part in [Part::Tune, Part::Final, Part::Table] {
            let tasks = self.tasks(part);
            for first in (0..tasks).step_by(limit.max(1)) {
                let count = limit.max(1).min(tasks - first);
                scripts.push((
                    part,
                    count,
                    script::text(self, part, first, count, folder, program, resources),
                ));
            }
        }
        scripts
    }

    /// Writes the scripts and the runs into a new folder and submits them.
    ///
    /// # Errors
    /// When jobs of this store are already in the queue, the folder cannot be written, or Slurm rejects a job.
    pub fn submit(&self, program: &Path, resources: &Resources) -> Result<Vec<Job>> {
        let store = Store { folder: self.store.clone() };
        let waiting = queue::living(&jobs(&store))?;
        if !waiting.is_empty() {
            let jobs = waiting.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            return Err(slurm(format!(
                "jobs {jobs} of this experiment are already in the queue; see `san status`"
            )));
        }
        let folder = self.folder()?;
        create_folder(&folder)?;
        write_json(&folder.join(CELLS), self)?;
        let limit = queue::array_size()?.unwrap_or(USUAL_ARRAY_SIZE);
        let mut jobs: Vec<Job> = Vec::new();
        let scripts = self.scripts(&folder, program, resources, limit);
        for (number, (part, tasks, text)) in scripts.into_iter().enumerate() {
            let path = folder.join(format!("{number}-{}.sh", part.name()));
            write_atomically(&path, text.as_bytes())?;
            let id = sbatch(&path, &dependency(part, &jobs))?;
            jobs.push(Job { part, id, tasks });
            write_json(&folder.join(JOBS), &jobs)?;
        }
        Ok(jobs)
    }

    /// The folder of the next submission.
    ///
    /// # Errors
    /// When the working directory does not exist.
    pub fn folder(&self) -> Result<PathBuf> {
        let all = entries(&self.store.join(FOLDER));
        let last = all.iter().filter_map(|path| file_name(path).parse::<u64>().ok()).max();
        Ok(self.store.join(FOLDER).join((last.unwrap_or(0) + 1).to_string()))
    }
}

/// The option that makes a part wait for the previous one.
fn dependency(part: Part, jobs: &[Job]) -> Option<String> {
    let of = |wanted: Part| {
        let ids: Vec<String> =
            jobs.iter().filter(|job| job.part == wanted).map(|job| job.id.to_string()).collect();
        (!ids.is_empty()).then(|| ids.join(":"))
    };
    match part {
        Part::Tune => None,
        Part::Final => of(Part::Tune).map(|ids| format!("--dependency=afterok:{ids}")),
        // Also after failed runs: the table shows what is missing.
        Part::Table => of(Part::Final).map(|ids| format!("--dependency=afterany:{ids}")),
    }
}

fn sbatch(script: &Path, dependency: &Option<String>) -> Result<u64> {
    let output = Command::new("sbatch")
        .args(["--parsable", "--kill-on-invalid-dep=yes"])
        .args(dependency)
        .arg(script)
        .output()
        .map_err(|error| slurm(format!("sbatch: {error}")))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let id = said.trim().split(';').next().and_then(|id| id.parse().ok());
    match id {
        Some(id) if output.status.success() => Ok(id),
        _ => Err(slurm(format!("sbatch: {}", String::from_utf8_lossy(&output.stderr).trim()))),
    }
}

fn slurm(reason: String) -> anyhow::Error {
    RunError::Slurm { reason }.into()
}

/// The jobs of all submissions of a store.
pub fn jobs(store: &Store) -> Vec<Job> {
    let read = |folder: PathBuf| -> Option<Vec<Job>> {
        serde_json::from_slice(&std::fs::read(folder.join(JOBS)).ok()?).ok()
    };
    let mut folders = entries(&store.folder.join(FOLDER));
    folders.sort();
    folders.into_iter().filter_map(read).flatten().collect()
}
