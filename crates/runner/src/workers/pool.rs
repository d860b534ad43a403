//! Worker processes on this machine.
//!
//! Processes, not threads: the peak memory of a run is that of its process, a crash costs one run, and each worker has
//! its own number of libtorch threads. `supervisor` monitors them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::error::{RUN_FAILED, RunError};
use crate::messages::{counted, message};
use crate::store::Store;
use crate::store::failure;
use crate::store::lock::clean;
use crate::tasks::{Memory, Run, RunGroup};
use crate::train::signals::StopFlag;
use crate::workers::gpus::{self, Gpu};
use crate::workers::memory::{self, Need};
use crate::workers::supervisor::Supervisor;

/// What a worker receives on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// All groups of the stage with a run that was not done at the start, in order.
    pub groups: Vec<AssignedGroup>,
    /// Number of runs that were not done at the start.
    pub open: usize,
    /// Folder of the store.
    pub folder: PathBuf,
    /// Folder of the results, where hashes of files are cached.
    pub results: PathBuf,
    /// Name of the device.
    pub device: String,
    /// Compute threads.
    pub threads: u32,
    /// How often the state of a run is saved.
    pub checkpoint_every: Duration,
    /// Folder of the files of picture features, if they are kept.
    #[serde(default)]
    pub cache_features: Option<PathBuf>,
}

/// A group of runs, for a worker.
#[derive(Debug, Serialize, Deserialize)]
pub struct AssignedGroup {
    /// Its runs.
    pub runs: Vec<Run>,
    /// How its steps are computed, if that was chosen for the device.
    #[serde(default)]
    pub memory: Option<Memory>,
}

impl AssignedGroup {
    /// The group.
    ///
    /// # Errors
    /// When a run cannot be serialised.
    pub fn into_group(self) -> Result<RunGroup> {
        Ok(RunGroup::new(self.runs)?.with_memory(self.memory))
    }
}

impl From<&RunGroup> for AssignedGroup {
    fn from(group: &RunGroup) -> Self {
        Self { runs: group.runs().to_vec(), memory: group.memory() }
    }
}

/// The number of workers and their resources.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Number of processes.
    pub workers: u32,
    /// Compute threads of each.
    pub threads: u32,
    /// Memory limit for all of them together, bytes; if `None`, what is available at the start, which is not enforced.
    pub memory: Option<u64>,
    /// The GPUs that the workers are distributed over, one after the other; empty if they compute on the processors.
    pub gpus: Vec<Gpu>,
    /// Folder of the results.
    pub results: PathBuf,
    /// How often the state of a run is saved.
    pub checkpoint_every: Duration,
    /// Folder of the files of picture features, if they are kept.
    pub cache_features: Option<PathBuf>,
    /// A worker whose loops have not advanced for this long is replaced.
    pub hung_after: Duration,
}

impl Pool {
    /// Whether its workers are pinned to GPUs.
    pub fn is_on_gpu(&self) -> bool {
        !self.gpus.is_empty()
    }

    /// Whether these GPUs are real.
    fn computes_on_gpu(&self) -> bool {
        self.gpus.iter().any(|gpu| !gpu.is_pretended)
    }

    /// The GPU of a worker, also of one that replaces it.
    pub(crate) fn gpu(&self, worker: usize) -> Option<&Gpu> {
        self.gpus.get(worker.checked_rem(self.gpus.len())?)
    }

    /// The GPUs that are used and their workers in words, for example `2 GPUs (NVIDIA H100 80GB HBM3), 2 workers of 8
    /// threads`; `None` on the processors.
    pub fn gpus_in_words(&self) -> Option<String> {
        let used = &self.gpus[..self.gpus.len().min(self.workers as usize)];
        let (workers, threads) = (self.workers as usize, self.threads as usize);
        let workers = format!("{} of {}", counted(workers, "worker"), counted(threads, "thread"));
        self.is_on_gpu().then(|| format!("{}, {workers}", gpus::in_words(used)))
    }

    /// Executes the groups with unfinished runs; returns when all are done. A run that failed in an earlier call is tried
    /// again. `planned` is what the largest group needs according to the plan, bytes.
    ///
    /// # Errors
    /// When there is not enough memory for one worker, a run failed, a worker cannot write the results (it has reported
    /// why), or a signal asked to stop.
    pub fn run(
        &self,
        title: &str,
        groups: &[RunGroup],
        planned: u64,
        store: &Store,
        stop: &StopFlag,
    ) -> Result<()> {
        clean(store)?;
        let is_open = |name: &String| !store.is_done(name);
        let groups: Vec<&RunGroup> =
            groups.iter().filter(|group| group.names().iter().any(is_open)).collect();
        let runs = groups.iter().flat_map(|group| group.names().iter().zip(group.runs()));
        let open: Vec<(&String, &Run)> = runs.filter(|(name, _)| is_open(name)).collect();
        if open.is_empty() {
            return Ok(());
        }
        for (name, _) in &open {
            failure::clear(store, name)?;
        }
        let workers = self.affordable(&groups, planned, store)?;
        let assignment = Assignment {
            groups: groups.iter().copied().map(AssignedGroup::from).collect(),
            open: open.len(),
            folder: store.folder.clone(),
            results: self.results.clone(),
            device: if self.computes_on_gpu() { "cuda" } else { "cpu" }.into(),
            threads: self.threads,
            checkpoint_every: self.checkpoint_every,
            cache_features: self.cache_features.clone(),
        };
        Supervisor::new(self, title, &assignment, store, workers)?.wait(stop)?;
        verdict(&open, store)
    }

    /// The number of workers that the runs, the processors and the memory allow.
    fn affordable(&self, open: &[&RunGroup], planned: u64, store: &Store) -> Result<u32> {
        let wanted = self.workers.clamp(1, u32::try_from(open.len()).unwrap_or(u32::MAX));
        let processors = std::thread::available_parallelism().map_or(u32::MAX, |count| count.get() as u32);
        let threads = wanted.saturating_mul(self.threads);
        if threads > processors {
            message(format_args!(
                "san: {wanted} workers of {} threads share {processors} processors and will slow each other down",
                self.threads
            ));
        }
        let need = Need::of(open.iter().flat_map(|group| group.runs()), store, self.computes_on_gpu());
        let need = if self.computes_on_gpu() { need } else { need.or_planned(planned) };
        let budget = self.memory.or_else(memory::available);
        let Some(budget) = budget else { return Ok(wanted) };
        let fit = u32::try_from(budget / need.bytes.max(1)).unwrap_or(u32::MAX);
        if fit == 0 && self.memory.is_some() {
            return Err(RunError::Memory {
                need: memory::in_words(need.bytes),
                budget: memory::in_words(budget),
                source_of_need: need.source,
            }
            .into());
        }
        let workers = wanted.min(fit.max(1));
        if workers < wanted {
            message(format_args!(
                "san: {workers} of {wanted} workers: each needs about {} of {} ({})",
                memory::in_words(need.bytes),
                memory::in_words(budget),
                need.source
            ));
        }
        Ok(workers)
    }
}

/// An error if any run is not done.
fn verdict(open: &[(&String, &Run)], store: &Store) -> Result<()> {
    let missing: Vec<_> = open.iter().filter(|(name, _)| !store.is_done(name)).collect();
    let Some((name, run)) = missing.first() else { return Ok(()) };
    let note = failure::of(store, name);
    let reason = note.as_ref().map_or("no worker ran it".into(), |note| note.reason.clone());
    let code = note.map_or(RUN_FAILED, |note| note.code);
    let (failed, runs) = (missing.len(), open.len());
    Err(RunError::RunsFailed { failed, runs, label: run.label(), reason, code }.into())
}
