//! A worker: locks groups of unfinished runs, one after the other, executes them and writes their records.
//!
//! A run is executed in a scratch folder, which is renamed to the run's name when its group is complete; the checkpoint of
//! the group is stored elsewhere (`train::checkpoint`). A group that another worker has locked is tried again later, since
//! that worker may die.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use report::record::{CONFIGURATION_FILE, RECORD_FILE};
use serde::{Deserialize, Serialize};

use crate::error::{INTERRUPTED, RunError, WRITE, exit_code};
use crate::io::files::{create_folder, file_name, publish_folder, write_atomically, write_json, writing};
use crate::messages::message;
use crate::resources::Resources;
use crate::store::Store;
use crate::store::failure;
use crate::store::lock::{GroupLock, Heartbeat, SCRATCH, host};
use crate::tasks::{Memory, Outcome, Run, RunGroup, execute};
use crate::train::checkpoint::CheckpointFile;
use crate::train::signals::StopFlag;
use crate::train::trainer::RunControl;
use crate::workers::recorder::Recorder;
use crate::workers::{device, out_of_memory};

/// A message from a worker to the supervisor, one JSON object per line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Message {
    /// A group of runs began.
    Started {
        /// The names of its runs.
        runs: Vec<String>,
        /// Label of the group: set, method, seeds, learning rates.
        label: String,
    },
    /// Progress of the current group.
    Stepped {
        /// Steps done.
        done: u64,
        /// Total steps.
        total: u64,
    },
    /// How often the loops have polled the stop flag; if the number does not change, the worker hangs.
    Heartbeat {
        /// [`StopFlag::checks`].
        checks: u64,
    },
    /// The current group is done.
    Finished {
        /// How many of its runs were not done before.
        runs: usize,
    },
    /// The current group failed.
    Failed,
}

/// How often steps are reported.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// How often the heartbeat of a lock is written.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// How often runs that other workers have locked are tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// A worker ends when the groups of this many methods have failed one after the other: the cause is then unlikely to be
/// the runs. A method of which every run fails does not end it.
const FAILED_METHODS: usize = 3;

/// How a worker works.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Compute threads, for the record.
    pub threads: u32,
    /// How often the state of a run is saved.
    pub checkpoint_every: Duration,
    /// Whether to wait for runs that other workers have locked, since one of them may die.
    pub wait_for_others: bool,
}

/// One worker process.
pub struct Worker<'a> {
    store: &'a Store,
    resources: &'a mut Resources,
    settings: Settings,
    stop: &'a StopFlag,
    recorder: Recorder,
}

impl<'a> Worker<'a> {
    /// A worker over the runs in `store`.
    pub fn new(
        store: &'a Store,
        resources: &'a mut Resources,
        settings: Settings,
        stop: &'a StopFlag,
    ) -> Self {
        let recorder = Recorder::new(resources.models.device(), settings.threads);
        Self { store, resources, settings, stop, recorder }
    }

    /// Executes every group with a run that is neither done nor failed, unless another process has locked it.
    ///
    /// # Errors
    /// When a run cannot be executed, [`RunError::AlreadyReported`] after the other runs; immediately when a signal asked to
    /// stop or the results cannot be written.
    pub fn work(&mut self, groups: &[RunGroup], output: &mut dyn Write) -> Result<()> {
        create_folder(&self.store.folder)?;
        let mut open: Vec<&RunGroup> = groups.iter().collect();
        let (mut errors, mut failing) = (Vec::new(), BTreeSet::new());
        loop {
            let mut elsewhere = Vec::new();
            for group in open {
                self.stop.check()?;
                if self.is_settled(group) {
                    continue;
                }
                match GroupLock::take(self.store, &group.name(), group.names())? {
                    None => elsewhere.push(group),
                    // Another worker may have finished it since the check.
                    Some(lock) if self.is_settled(group) => lock.release()?,
                    Some(lock) => match self.run_locked(group, lock, output)? {
                        Some(code) => {
                            errors.push(code);
                            failing.extend(group.runs().iter().map(|run| run.method.clone()));
                        }
                        None => failing.clear(),
                    },
                }
                if failing.len() >= FAILED_METHODS {
                    break;
                }
            }
            let gives_up = failing.len() >= FAILED_METHODS;
            if elsewhere.is_empty() || gives_up || !self.settings.wait_for_others {
                return match errors.first() {
                    Some(&code) => Err(RunError::AlreadyReported { code }.into()),
                    None => Ok(()),
                };
            }
            open = elsewhere;
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    fn is_settled(&self, group: &RunGroup) -> bool {
        group.names().iter().all(|name| self.store.is_done(name) || failure::has_failed(self.store, name))
    }

    /// Executes a locked group; an error of the runs themselves is recorded and reported, and its exit code returned.
    fn run_locked(
        &mut self,
        group: &RunGroup,
        mut lock: GroupLock,
        output: &mut dyn Write,
    ) -> Result<Option<u8>> {
        let label = group.label();
        send(output, &Message::Started { runs: group.names().to_vec(), label: label.clone() })?;
        let result = match self.train_group(group, &label, &mut lock, output) {
            Err(error) if out_of_memory::is(&error) => match group.with_smaller_micro_batches() {
                Some(smaller) => {
                    let batch = group.runs()[0].protocol.batch_size;
                    let now = smaller.memory().unwrap_or_default().in_words(batch);
                    message(format_args!(
                        "san: {label}: out of memory ({error:#}); it is tried once more from its checkpoint, with half \
                         the examples in a micro-batch: {now}"
                    ));
                    self.train_group(&smaller, &label, &mut lock, output)
                }
                None => Err(error),
            },
            result => result,
        };
        match result {
            Ok(runs) => send(output, &Message::Finished { runs })?,
            // A signal or a full disk: nothing is wrong with the runs.
            Err(error) if [WRITE, INTERRUPTED].contains(&exit_code(&error)) => return Err(error),
            Err(error) => {
                let reason = format!("{error:#}");
                message(format_args!("san: {label}: {reason}"));
                let code = exit_code(&error);
                failure::mark_group(self.store, group.names(), &label, &reason, code)?;
                lock.release()?;
                send(output, &Message::Failed)?;
                return Ok(Some(code));
            }
        }
        lock.release()?;
        Ok(None)
    }

    /// Executes a group in scratch folders and publishes its runs; returns how many were not done before.
    fn train_group(
        &mut self,
        group: &RunGroup,
        label: &str,
        lock: &mut GroupLock,
        output: &mut dyn Write,
    ) -> Result<usize> {
        let scratch = |name: &String| self.store.folder.join(format!("{SCRATCH}{name}"));
        let folders: Vec<PathBuf> = group.names().iter().map(scratch).collect();
        for scratch in &folders {
            if scratch.exists() {
                writing(scratch, std::fs::remove_dir_all(scratch))?;
            }
            create_folder(scratch)?;
        }
        device::reset_peak_memory(self.resources.models.device());
        let mut beat =
            Heartbeat { label: label.into(), host: host(), process: std::process::id(), done: 0, total: 0 };
        lock.write_heartbeat(&beat);
        let (mut last_progress, mut last_heartbeat, stop) = (Instant::now(), Instant::now(), self.stop);
        let mut progress = |done, total| {
            if last_progress.elapsed() >= PROGRESS_INTERVAL {
                last_progress = Instant::now();
                if send(output, &Message::Stepped { done, total }).is_err() {
                    stop.set(); // the supervisor is gone, so nobody waits for the result
                }
            }
            if last_heartbeat.elapsed() >= HEARTBEAT_INTERVAL {
                last_heartbeat = Instant::now();
                (beat.done, beat.total) = (done, total);
                lock.write_heartbeat(&beat);
            }
        };
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        let result = self.fill(group, &folders, &mut progress);
        // What a failed group left is useless, and so is another result of a run that was done before.
        folders.iter().for_each(|scratch| drop(std::fs::remove_dir_all(scratch)));
        result
    }

    fn fill(
        &mut self,
        group: &RunGroup,
        folders: &[&Path],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<usize> {
        let every = self.settings.checkpoint_every;
        let checkpoint = CheckpointFile::new(&self.store.folder, &group.name(), group.names(), every);
        let mut control = RunControl { stop: self.stop, checkpoint: &checkpoint, progress };
        let computed = group.computed_runs()?;
        let memory = step_memory_of(&computed[0]);
        let outcomes = out_of_memory::caught(|| execute(&computed, self.resources, folders, &mut control))?;
        let runs = group.runs().iter().zip(group.names()).zip(folders);
        let mut complete = Vec::new();
        for (((run, name), scratch), outcome) in runs.zip(outcomes) {
            self.write_record(run, name, scratch, Outcome { memory, ..outcome })?;
            complete.push((scratch, name));
        }
        let mut published = 0;
        for (scratch, name) in complete {
            // Results never change: of a group that was interrupted here, only the rest is published.
            if !self.store.is_done(name) {
                publish_folder(scratch, &self.store.run(name))?;
                published += 1;
            }
        }
        checkpoint.remove()?;
        Ok(published)
    }

    fn write_record(&self, run: &Run, name: &str, scratch: &Path, outcome: Outcome) -> Result<()> {
        write_json(&scratch.join(CONFIGURATION_FILE), run)?;
        let mut record = self.recorder.record(run, name, outcome)?;
        record.files = checksums(scratch)?;
        if let Some(reason) = record.contradiction() {
            return Err(RunError::UnsoundRecord { reason }.into());
        }
        let text =
            record.to_bytes().map_err(|error| RunError::UnsoundRecord { reason: error.to_string() })?;
        Ok(write_atomically(&scratch.join(RECORD_FILE), &text)?)
    }
}

/// How the steps of a run are computed; `None` if its task has no micro-batches.
fn step_memory_of(run: &Run) -> Option<Memory> {
    let protocol = &run.protocol;
    let choices = protocol.task().ok()?.step_choices(protocol.batch_size);
    choices.first().copied().filter(|_| protocol.has_micro_batches())
}

/// blake3 of every file in a folder, by name.
fn checksums(folder: &Path) -> Result<BTreeMap<String, String>, RunError> {
    let hash = |path: PathBuf| -> Result<(String, String), RunError> {
        let mut hasher = blake3::Hasher::new();
        let read = File::open(&path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
        writing(&path, read)?;
        Ok((file_name(&path).to_owned(), hasher.finalize().to_hex().to_string()))
    };
    let listed =
        std::fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    writing::<Vec<PathBuf>>(folder, listed)?.into_iter().map(hash).collect()
}

/// Writes a message as one line in a single call, since another thread may write at the same time.
///
/// # Errors
/// When the supervisor no longer reads.
pub fn send(output: &mut dyn Write, message: &Message) -> Result<()> {
    send_line(output, message)
}

/// The same for a message of any process.
pub(super) fn send_line(output: &mut dyn Write, message: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    output.write_all(&line)?;
    Ok(output.flush()?)
}
